// The service, deliberately broken: for each promise a copy of the sources that breaks it, which the harness has to
// catch. A variant is data: text replacements in files, and the faults that reveal the break.

import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { answerInstead, faults, gatewayAnswers } from "../../fakes/faults.ts";
import type { Scenario, Store } from "../../chaos/scenario.ts";
import { wholeEmailVariants } from "./broken_whole_email.ts";

export interface Patch {
  readonly file: string;
  /** Must occur in the file exactly once. */
  readonly from: string;
  readonly to: string;
}

export interface Variant {
  readonly name: string;
  readonly store: Store;
  readonly patches: readonly Patch[];
  /** The faults that reveal it. */
  readonly under: Omit<Scenario, "name" | "about">;
  /** How many processes have to be killed at least to reveal it. */
  readonly kills?: number;
  /** How many emails have to be acknowledged at least; if absent, half of those that are offered on a fast machine. */
  readonly emails?: number;
  /** The failure that the result reports; undefined for an unbroken control. */
  readonly caughtAs: RegExp | undefined;
  /** Time for the queue to drain, ms; 8 s if absent. Longer if the correct service needs longer too. */
  readonly drainMs?: number;
}

const root = resolve(import.meta.dir, "../..");
const sources = [
  "server.ts",
  "worker.ts",
  "lib",
  "clients",
  "fakes",
  "package.json",
  "tsconfig.json",
  "bunfig.toml",
];

/** The changed files by their paths. Throws if one does not contain a `from` exactly once. */
export function applyPatches(patches: readonly Patch[]): Map<string, string> {
  const texts = new Map<string, string>();
  for (const { file, from, to } of patches) {
    const [before, after, ...more] = (texts.get(file) ?? readFileSync(join(root, file), "utf8")).split(from);
    if (before === undefined || after === undefined || more.length > 0) {
      throw new Error(`${file} does not contain this exactly once: ${from}`);
    }
    texts.set(file, before + to + after);
  }
  return texts;
}

/** Creates the copy in `folder`. Throws if the sources do not contain each `from` exactly once. */
export function breakInto(folder: string, { patches }: Pick<Variant, "patches">): string {
  mkdirSync(folder, { recursive: true });
  for (const name of sources) cpSync(join(root, name), join(folder, name), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  for (const [file, text] of applyPatches(patches)) writeFileSync(join(folder, file), text);
  return folder;
}

const tooMany = answerInstead(
  429,
  { name: "rate_limit_exceeded", message: "Too many requests" },
  { "retry-after": "0" },
);

const acknowledgesFirst: Patch = {
  file: "lib/queue/group_commit.ts",
  from: "      this.#expireAt(deadlineMs);\n      this.#schedule();\n",
  to: '      this.#expireAt(deadlineMs);\n      this.#schedule();\n      resolve({ kind: "stored", id: submission.id, repeated: false });\n',
};
const killedServers = {
  faults: [{ do: "kill", component: "server" }],
  pauseMs: [300, 500],
  diskSyncMs: 40,
} as const satisfies Variant["under"];

const powerCuts = {
  faults: [{ do: "cutPower", keep: [0, 0] }],
  pauseMs: [400, 600],
} as const satisfies Variant["under"];

const maintenance = answerInstead(503, {
  statusCode: 503,
  name: "service_unavailable",
  message: "Temporarily unavailable.",
});

const forgetsTheFence = {
  oneSender: true,
  faults: [
    {
      do: "freezeBeforeSettlement",
      name: "resend",
      fault: maintenance,
      // Accepted immediately but answered late: the next worker still holds the batch when the first one continues.
      meanwhile: { stage: "accepted", delayMs: 900, effect: "nothing" },
      forMs: [750, 800],
    },
  ],
  settings: { PROVIDERS: "resend:1" },
  // One of the workers soon claims what is due, at a rate that the provider names.
  workers: 4,
  resend: { rateLimit: 50 },
  rate: 50,
  pauseMs: [600, 800],
} as const satisfies Variant["under"];

/** Accepts without saying so, then throttles. */
const ownErrorAfterAccepting = {
  stage: "accepted",
  effect: {
    status: 500,
    json: { statusCode: 500, name: "application_error", message: "An error occurred." },
  },
} as const;

const doubtThenMaintenance = {
  oneSender: true,
  faults: [
    {
      do: "provider",
      name: "resend",
      fault: [ownErrorAfterAccepting, maintenance],
      probability: 0.5,
      forMs: [1000, 1000],
    },
  ],
  settings: { PROVIDERS: "resend:1" },
  resend: { rateLimit: 50 },
  rate: 50,
  pauseMs: [50, 100],
} as const satisfies Variant["under"];

const resetAfterAccepting = {
  faults: [
    {
      do: "provider",
      name: "resend",
      fault: faults.resetAfterAccepting,
      probability: 0.5,
      forMs: [300, 600],
    },
  ],
  pauseMs: [100, 200],
} as const satisfies Variant["under"];

const workersKilled = {
  faults: [{ do: "kill", component: "worker" }],
  // Long enough that a worker has a request in flight whenever it is killed.
  resend: { workMs: 500 },
  postmark: { workMs: 500 },
  // A busy machine needs a while to start a worker.
  pauseMs: [800, 1200],
} as const satisfies Variant["under"];

const lostReplies = {
  faults: [{ do: "network", link: "server-redis", how: "dropReplies", forMs: [1300, 1500] }],
  pauseMs: [100, 200],
} as const satisfies Variant["under"];

/** A queue whose writes are not idempotent, and which therefore does not repeat them. */
const writesOnce: readonly Patch[] = [
  {
    file: "lib/queue/redis/scripts/submit.lua",
    from: "local known = (waiting[i] or sent[i] or taken[id]) and id or (one and used_before(one))",
    to: "local known = one and used_before(one)",
  },
  {
    file: "lib/queue/redis/producer.ts",
    from: 'return { kind: "again", reason, isUntouched: untouched.test(reason) };',
    to: 'return { kind: "failed", reason };',
  },
];
const cutReplies = {
  faults: [{ do: "network", link: "server-redis", how: "cutReplies", forMs: [100, 150] }],
  pauseMs: [50, 100],
  settings: { PROVIDERS: "postmark:1" },
  diskSyncMs: 20,
} as const satisfies Variant["under"];

/** If an acknowledged email is gone, a client that repeats its request has it queued again under another id. */
const forgotten = /lost|damaged|with two ids/;

const slotMoves = {
  settings: { REDIS_MIN_REPLICAS: "2" },
  pauseMs: [500, 600],
  mayDuplicateAtPostmark: true,
} as const satisfies Omit<Variant["under"], "faults">;

/** A slot that was written to on two nodes cannot be united without loss. */
const splitSlot = /lost|damaged|with two ids|the nodes do not agree/;

export const variants: readonly Variant[] = [
  {
    name: "writes each email once, over the unchanged connection",
    store: "redis",
    patches: writesOnce,
    under: cutReplies,
    caughtAs: undefined,
  },
  {
    name: "writes each email once, over a connection with ioredis's defaults",
    store: "redis",
    patches: [
      ...writesOnce,
      {
        file: "lib/queue/redis/connection.ts",
        from: `      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
      autoResendUnfulfilledCommands: false,
`,
        to: "",
      },
      {
        file: "lib/queue/redis/connection.ts",
        from: "      commandTimeout: replyTimeoutMs,\n      socketTimeout: silenceMs,\n",
        to: "",
      },
    ],
    under: cutReplies,
    caughtAs: /accepted twice/,
  },
  {
    name: "keeps its connections to a primary that was demoted",
    store: "redis",
    patches: [
      {
        file: "lib/queue/redis/connection.ts",
        from: "      reconnectOnError: (error) => leadsElsewhere.test(error.message),\n",
        to: "",
      },
      {
        file: "lib/queue/redis/connection.ts",
        from: "setInterval(() => void this.#checkRole(), roleCheckMs)",
        to: "setInterval(() => {}, roleCheckMs)",
      },
    ],
    under: {
      faults: [{ do: "failOver", old: "demoted", forMs: [1600, 1700] }],
      settings: { REDIS_MIN_REPLICAS: "1" },
      redis: { "repl-diskless-sync-delay": "0" },
      // Only one failover: the next one would make it the primary again.
      pauseMs: [1000, 1100],
    },
    // After the failover its servers may acknowledge none.
    emails: 1,
    // By what its workers, or only its servers, are connected to.
    caughtAs: /stuck|never answered with 200/,
  },
  {
    name: "acknowledges what its replicas do not have",
    store: "sentinel",
    patches: [
      {
        file: "lib/queue/redis/producer.ts",
        from: 'if (replicas >= minReplicas) return { kind: "done"',
        to: 'if (replicas >= 0) return { kind: "done"',
      },
    ],
    under: {
      faults: [
        { do: "node", role: "primary", how: "cutFromPeers", forMs: [2500, 3000], untilReplaced: true },
      ],
      settings: { REDIS_MIN_REPLICAS: "1" },
      pauseMs: [500, 600],
    },
    caughtAs: forgotten,
  },
  {
    name: "stays with a primary that was replaced",
    store: "cluster",
    patches: [
      {
        file: "lib/queue/redis/connection.ts",
        from: "reconnectOnError: (error) => leadsElsewhere.test(error.message),",
        to: "reconnectOnError: () => false,",
      },
      {
        file: "lib/queue/redis/connection.ts",
        from: "setInterval(() => void this.#checkRole(), roleCheckMs)",
        to: "setInterval(() => {}, roleCheckMs)",
      },
      {
        file: "lib/queue/redis/connection.ts",
        from: "  #follow(): void {\n",
        to: '  #follow(): void {\n    if (this.redis.status === "ready") return;\n',
      },
    ],
    under: {
      // Only one failover: with the next one, the old primary might be the primary again.
      faults: [{ do: "promote", forMs: [2500, 3000] }],
      settings: { REDIS_MIN_REPLICAS: "1" },
      pauseMs: [500, 600],
    },
    caughtAs: /stuck|never answered/,
  },
  {
    name: "does not look for other nodes with a part of its slot",
    store: "cluster",
    patches: [
      {
        file: "lib/queue/redis/topology/cluster.ts",
        from: "  return other === undefined\n",
        to: "  return other === undefined || true\n",
      },
    ],
    under: { ...slotMoves, faults: [{ do: "moveSlot", killSource: true }] },
    caughtAs: splitSlot,
  },
  {
    name: "acknowledges before it writes",
    store: "redis",
    patches: [acknowledgesFirst],
    under: killedServers,
    caughtAs: forgotten,
  },
  {
    name: "acknowledges before it writes",
    store: "embedded",
    patches: [acknowledgesFirst],
    under: killedServers,
    caughtAs: forgotten,
  },
  {
    name: "lets Redis fsync once a second",
    store: "redis",
    patches: [],
    under: {
      ...powerCuts,
      // An earlier cut takes the whole queue: then it stays closed, and nothing is acknowledged any more.
      pauseMs: [1500, 1800],
      settings: { REDIS_DURABILITY: "trust" },
      redis: { appendfsync: "everysec" },
    },
    caughtAs: forgotten,
  },
  {
    name: "leaves the fsyncs of SQLite's file to the system",
    store: "embedded",
    patches: [
      {
        file: "lib/queue/sqlite/connection.ts",
        from: "PRAGMA synchronous = FULL",
        to: "PRAGMA synchronous = OFF",
      },
    ],
    under: powerCuts,
    caughtAs: forgotten,
  },
  {
    name: "believes a gateway",
    store: "embedded",
    patches: [
      {
        file: "lib/providers/http.ts",
        from: 'const kind = originNotReached.has(status) ? "unavailable" : "unknown";',
        to: 'const kind = originNotReached.has(status) || status === 503 ? "unavailable" : "unknown";',
      },
    ],
    under: {
      oneSender: true,
      faults: [
        {
          do: "provider",
          name: "postmark",
          fault: { stage: "accepted", effect: gatewayAnswers.unavailable },
          probability: 0.5,
          forMs: [1000, 1000],
        },
      ],
      settings: { PROVIDERS: "resend:1,postmark:1" },
      pauseMs: [100, 200],
    },
    caughtAs: /accepted twice/,
  },
  {
    name: "never splits a batch that fails",
    store: "embedded",
    patches: [
      {
        file: "lib/policy/decide_email.ts",
        from: "return suspects > pieceMaxFirst ? pieceMaxFirst : 1;",
        to: "return Math.max(suspects, 1000);",
      },
      // Otherwise batches become too small to be split.
      {
        file: "lib/worker/provider_state.ts",
        from: "Math.max(1, Math.floor(this.countMax / 2));",
        to: "this.countMax;",
      },
    ],
    under: {
      // A low rate of requests makes batches large.
      poisonEvery: 100,
      rate: 200,
      faults: [],
      settings: {
        PROVIDERS: "resend:1",
        GIVE_UP_AFTER: "5s",
        DOUBT_TIMEOUT: "15s",
        DOUBT_SPLIT_AFTER: "1s",
      },
      resend: { rateLimit: 5 },
      pauseMs: [0, 0],
      limits: { withinMs: 20_000, withPoisonMs: 60_000 },
      mayDuplicateIfCounted: true,
    },
    caughtAs: /accepted too late|stuck in the queue/,
    drainMs: 40_000,
  },
  {
    name: "splits batches in doubt at Resend without evidence",
    store: "embedded",
    patches: [
      {
        file: "lib/policy/decide_in_doubt.ts",
        from: "  return baseline?.credential === policy.credential && batch.acceptances > baseline.acceptances;",
        to: "  return baseline !== undefined;",
      },
      // Otherwise five failed batches would open the breaker, with too few attempts for any of them in this time.
      { file: "lib/policy/breaker.ts", from: "const failuresMax = 5;", to: "const failuresMax = 1e9;" },
    ],
    // Resend accepts everything but never says so: nothing suggests that an email is at fault.
    under: {
      settings: { PROVIDERS: "resend:1", DOUBT_SPLIT_AFTER: "500ms" },
      resend: { rateLimit: 50 },
      oneSender: true,
      faults: [
        {
          do: "provider",
          name: "resend",
          fault: ownErrorAfterAccepting,
          probability: 1,
          forMs: [8000, 8000],
        },
      ],
      pauseMs: [100, 100],
    },
    caughtAs: /accepted twice by Resend/,
  },
  ...(["redis", "embedded"] as const).map((store): Variant => ({
    name: "trusts the clock",
    store,
    patches: [
      store === "redis"
        ? {
            file: "lib/queue/redis/scripts/housekeeping.lua",
            from: "local restamped = 0\n",
            to: "local restamped = 1e9\n",
          }
        : { file: "lib/queue/sqlite/housekeeping.ts", from: "  restamp(db);\n", to: "" },
    ],
    under: {
      faults: [
        {
          do: "stepClock",
          of: store === "redis" ? "redis" : "service",
          aheadMs: [24 * 3_600_000],
          forMs: [500, 1000],
        },
        {
          do: "provider",
          name: "resend",
          fault: tooMany,
          probability: 0.5,
          forMs: [500, 1000],
        },
      ],
      lanes: 2,
      settings: { PROVIDERS: "resend:1" },
      pauseMs: [50, 100],
      limits: { withinMs: 30_000 },
      mayDuplicateAtPostmark: true,
    },
    caughtAs: /accepted too late|stuck in the queue/,
    drainMs: 30_000,
  })),
  {
    name: "uses a new idempotency key for every attempt",
    store: "embedded",
    patches: [
      {
        file: "lib/providers/resend.ts",
        from: "send({ batchId: idempotencyKey, emails }, signal) {",
        to: "send({ emails }, signal) {\n      const idempotencyKey = crypto.randomUUID();",
      },
    ],
    under: resetAfterAccepting,
    caughtAs: /accepted twice by Resend/,
  },
  {
    name: "settles without the fence",
    store: "redis",
    patches: [
      {
        file: "lib/queue/redis/scripts/settle.lua",
        from: "local ours = tonumber(b.lease) == s.lease and b.held == (s.held or '1') and (not s.held or is_free(b, at))",
        to: "local ours = b.ids ~= nil",
      },
    ],
    under: forgetsTheFence,
    caughtAs: /accepted twice by Resend/,
  },
  {
    name: "settles without the fence",
    store: "embedded",
    patches: [
      {
        file: "lib/queue/sqlite/settle.ts",
        from: "row !== undefined && row.lease === batch.lease && row.held === 1",
        to: "row !== undefined",
      },
    ],
    under: forgetsTheFence,
    caughtAs: /accepted twice by Resend/,
  },
  {
    name: "drops the batches of a killed worker",
    store: "redis",
    patches: [
      {
        file: "lib/queue/redis/scripts/claim.lua",
        from: "  if reply then\n    return reply\n",
        to: [
          "  if reply then",
          "    local leased = cjson.decode(reply[1]).batch",
          "    if leased and provider then",
          "      local b = record(leased.id)",
          "      drop_batch(leased.id, b)",
          "      delete(words(b.ids), at + 600000)",
          "    end",
          "    return reply",
          "",
        ].join("\n"),
      },
      {
        file: "lib/queue/redis/scripts.ts",
        from: "createScript(claim, [common, hidden, batches, rates, dueLists])",
        to: "createScript(claim, [...all, rates, dueLists])",
      },
    ],
    under: workersKilled,
    kills: 5,
    caughtAs: /lost/,
  },
  {
    name: "never releases the batches of a killed worker",
    store: "embedded",
    patches: [
      {
        file: "lib/queue/sqlite/claim.ts",
        from: "return Math.round(by.leaseMs) +",
        to: "return 1e9 + Math.round(by.leaseMs) +",
      },
    ],
    under: workersKilled,
    kills: 5,
    caughtAs: /stuck in the queue/,
  },
  {
    name: "cannot deliver once memory is full",
    store: "redis",
    patches: [
      {
        file: "lib/queue/redis/scripts/claim.lua",
        from: "#!lua flags=allow-oom\n",
        to: "#!lua\n",
      },
    ],
    under: {
      faults: [{ do: "fillMemory", forMs: [300, 600] }],
      pauseMs: [300, 600],
      // Leaves something to deliver.
      resend: { rateLimit: 2 },
      postmark: { rateLimit: 1 },
      drainsWithMemoryFull: true,
    },
    caughtAs: /stuck in the queue/,
  },
  {
    name: "forgets doubt after a 503",
    store: "embedded",
    patches: [
      {
        file: "lib/policy/decide_batch.ts",
        from: '    case "unavailable":\n      return inDoubt ? keepInDoubt(outcome, input) : ruleAlike(outcome, input);',
        to: '      return inDoubt ? keepInDoubt(outcome, input) : ruleAlike(outcome, input);\n    case "unavailable":\n      return ruleAlike(outcome, input);',
      },
    ],
    under: doubtThenMaintenance,
    caughtAs: /accepted twice by Resend/,
  },
  {
    name: "queues a known id again",
    store: "redis",
    patches: [
      {
        file: "lib/queue/redis/scripts/submit.lua",
        from: "local known = (waiting[i] or sent[i] or taken[id]) and id or (one and used_before(one))",
        to: "local known = taken[id] and id or (one and used_before(one))",
      },
    ],
    under: lostReplies,
    caughtAs: /accepted twice/,
  },
  ...wholeEmailVariants,
];
