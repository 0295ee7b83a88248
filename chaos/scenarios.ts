// The scenarios: one for each kind of fault, and two that combine them. Data only; scenario.ts defines the words.

import { replicasPerPrimary } from "./nodes.ts";
import { answerInstead, faults, gatewayAnswers } from "../fakes/faults.ts";
import type { Clocked, Fault, NodeRole, Provider, Range, Scenario } from "./scenario.ts";

const both = ["resend", "postmark"] as const;
const forBoth = (fault: (name: Provider) => Fault): Fault[] => both.map(fault);

const kills: Fault[] = [
  { do: "kill", component: "server" },
  { do: "kill", component: "worker" },
  { do: "kill", component: "worker" },
  { do: "kill", component: "everything" },
];
const redisKills: Fault[] = [...kills, { do: "kill", component: "redis" }];
const serviceTrouble: Fault[] = [
  { do: "restart", component: "server" },
  { do: "restart", component: "worker" },
  { do: "freeze", component: "worker", forMs: [1000, 5000] },
  { do: "freeze", component: "server", forMs: [300, 2000] },
];

/** One node fails in each way in each role. @param roles a role listed twice is drawn twice as often */
function nodeFaults(roles: readonly NodeRole[], forMs: Range): Fault[] {
  const ways = ["kill", "freeze", "cutFromEveryone", "cutFromPeers", "cutFromService"] as const;
  return roles.flatMap((role) => ways.map((how): Fault => ({ do: "node", role, how, forMs })));
}

/** A dead primary does not come back before another one has the remaining replicas. */
const replacements: Fault[] = (["kill", "cutFromEveryone", "cutFromPeers"] as const).map((how) => ({
  do: "node",
  role: "primary",
  how,
  forMs: [0, 500],
  untilReplaced: true,
}));

const powerCut: Fault = { do: "cutPower", keep: [-4, 4] };

/** Duration of a fault that nothing has to wait for, ms. */
const briefly = [200, 1200] as const;

/** Every way in which a provider is known to fail a request. */
const troubles = [
  faults.resetBeforeAccepting,
  faults.resetAfterAccepting,
  faults.closeInBody,
  faults.hangBeforeAccepting,
  faults.hangAfterAccepting,
  faults.serverError,
  faults.serverErrorAfterAccepting,
  faults.badGatewayAfterAccepting,
  faults.emptySuccessAfterAccepting,
  faults.htmlSuccess,
  faults.oneShort,
  faults.nonsense,
  answerInstead(429, { name: "rate_limit_exceeded", message: "Too many requests" }, { "retry-after": "1" }),
] as const;

const providerTrouble: Fault[] = both.flatMap((name) => [
  ...troubles.map((fault): Fault => ({ do: "provider", name, fault, probability: 0.5, forMs: briefly })),
  { do: "providerDown", name, forMs: briefly },
]);

const network = (links: readonly Extract<Fault, { do: "network" }>["link"][]): Fault[] =>
  links.flatMap((link): Fault[] => [
    { do: "network", link, how: "dropReplies", forMs: briefly },
    { do: "network", link, how: "cutReplies", forMs: briefly },
    { do: "network", link, how: "halfOpen", forMs: briefly },
    { do: "network", link, how: "reset", forMs: briefly },
    { do: "network", link, how: "delay", delayMs: [50, 800], forMs: briefly },
  ]);

/** A worker frozen over an answer that returns its emails to waiting, or that accepts them. */
const staleSettlements: Fault[] = [
  {
    do: "freezeBeforeSettlement",
    name: "resend",
    fault: answerInstead(429, { name: "rate_limit_exceeded", message: "Too many requests" }),
    meanwhile: { stage: "accepted", delayMs: 900, effect: "nothing" },
    forMs: [750, 850],
  },
  { do: "freezeBeforeSettlement", name: "resend", forMs: [750, 850] },
];

/** A gateway answers instead of the provider, before the provider has the request or after it has accepted it. */
const gateways: Fault[] = both.flatMap((name) =>
  (["read", "accepted"] as const).flatMap((stage) =>
    Object.values(gatewayAnswers).map((effect): Fault => ({
      do: "provider",
      name,
      fault: { stage, effect },
      probability: 0.5,
      forMs: briefly,
    })),
  ),
);

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const yearMs = 365 * dayMs;

function wrongClock(of: Clocked): Fault {
  return {
    do: "stepClock",
    of,
    aheadMs: [hourMs, dayMs, yearMs, -hourMs, -dayMs, -yearMs],
    forMs: [1000, 3000],
  };
}

/** Faults that make emails wait for a point in time: their next attempt, or the end of a lease. */
const waits: Fault[] = [
  { do: "kill", component: "worker" },
  ...both.flatMap((name): Fault[] => [
    {
      do: "provider",
      name,
      fault: [
        answerInstead(
          429,
          { name: "rate_limit_exceeded", message: "Too many requests" },
          { "retry-after": "1" },
        ),
        faults.resetAfterAccepting,
      ],
      probability: 0.3,
      forMs: [500, 1500],
    },
    { do: "providerDown", name, forMs: [500, 1500] },
  ]),
];

/**
 * Counted from when the clock is right again: RETRY_MAX, two leases, and generous time for an ordinary delivery on a
 * busy machine. Stranded emails would take an hour at least.
 */
const afterClock = { withinMs: 1000 + 2 * 2000 + 25_000 };

/** Two faults at a time. */
const combined = {
  // With several senders the backlog after healing goes out in so many batches that Resend, at two requests a second until
  // it names its limit, takes minutes.
  oneSender: true,
  pauseMs: [100, 500],
  lanes: 2,
  mayDuplicateAtPostmark: true,
  mayHang: true,
} as const satisfies Partial<Scenario>;

export const scenarios: readonly Scenario[] = [
  {
    name: "kills",
    about: "kill -9 of a server, a worker, or everything together",
    stores: ["embedded"],
    faults: kills,
    pauseMs: [300, 900],
  },
  {
    name: "kills-redis",
    about: "kill -9 of a server, a worker, Redis, or everything together",
    stores: ["redis"],
    faults: redisKills,
    pauseMs: [300, 900],
  },
  {
    name: "restarts",
    about: "SIGTERM of one process after another, as in a rolling release",
    faults: [
      { do: "restart", component: "server" },
      { do: "restart", component: "worker" },
    ],
    pauseMs: [200, 600],
  },
  {
    name: "upgrade",
    about: "a worker of the adjacent release beside a new one; neither may get what it does not know",
    workers: 2,
    previousWorkers: 1,
    faults: [{ do: "kill", component: "worker" }],
    pauseMs: [300, 900],
  },
  {
    name: "freezes",
    about: "SIGSTOP of a server, or of a worker beyond its lease, then SIGCONT",
    faults: [
      { do: "freeze", component: "worker", forMs: [1000, 6000] },
      { do: "freeze", component: "server", forMs: [300, 3000] },
    ],
    pauseMs: [200, 600],
    mayDuplicateAtPostmark: true,
    mayHang: true,
  },
  {
    name: "frozen-redis",
    about:
      "SIGSTOP of Redis, then SIGCONT: dead connections, and an unknown outcome for everything in flight",
    stores: ["redis"],
    faults: [{ do: "freeze", component: "redis", forMs: [300, 4000] }],
    pauseMs: [300, 900],
  },
  {
    name: "virtual-address",
    about: "Redis is replaced by its replica behind one address; the old primary is demoted, hangs or dies",
    stores: ["redis"],
    faults: [
      { do: "failOver", old: "demoted", forMs: [300, 3000] },
      { do: "failOver", old: "hung", forMs: [300, 3000] },
      { do: "failOver", old: "dead", forMs: [300, 3000] },
    ],
    settings: { REDIS_MIN_REPLICAS: "1" },
    redis: { "repl-diskless-sync-delay": "0" },
    pauseMs: [500, 1500],
  },
  {
    name: "nodes",
    about:
      "a node dies, hangs or is cut off for a while, or a replica is promoted; all replicas must have every email",
    stores: ["sentinel", "cluster"],
    faults: [
      ...nodeFaults(["primary", "primary", "replica", "sentinel"], [500, 6000]),
      { do: "promote", forMs: [500, 3000] },
      { do: "promote", forMs: [500, 3000] },
    ],
    settings: { REDIS_MIN_REPLICAS: String(replicasPerPrimary) },
    pauseMs: [500, 2000],
    mayDuplicateAtPostmark: true,
  },
  {
    name: "replaced-nodes",
    about:
      "a primary that dies or is cut off comes back after it was replaced; one of two replicas must have every email",
    stores: ["sentinel", "cluster"],
    faults: [
      ...replacements,
      { do: "node", role: "replica", how: "kill", forMs: [500, 3000] },
      { do: "node", role: "replica", how: "cutFromEveryone", forMs: [500, 3000] },
    ],
    settings: { REDIS_MIN_REPLICAS: "1" },
    pauseMs: [500, 3000],
    mayDuplicateAtPostmark: true,
  },
  {
    name: "slot-moves",
    about:
      "slots move under load, and the source of a move is killed in the middle; the operator repairs the cluster",
    stores: ["cluster"],
    faults: [
      { do: "moveSlot" },
      { do: "moveSlot" },
      { do: "moveSlot", killSource: true },
      { do: "promote", forMs: [300, 1000] },
    ],
    settings: { REDIS_MIN_REPLICAS: String(replicasPerPrimary) },
    pauseMs: [300, 2000],
    mayDuplicateAtPostmark: true,
  },
  {
    name: "power-cut",
    about: "kill -9 of everything; writes that no fsync followed are lost",
    faults: [powerCut],
    pauseMs: [400, 1200],
    // As slow as a real disk's, so that most cuts fall between a write and the end of its fsync.
    diskSyncMs: 2,
  },
  {
    name: "torn-log",
    about: "kill -9 of Redis, with half a command at the end of its log",
    stores: ["redis"],
    faults: [{ do: "tearLog" }],
    pauseMs: [500, 1000],
  },
  {
    name: "lost-replies",
    about: "replies of Redis dropped, or the connection cut, after the script ran",
    stores: ["redis"],
    faults: (["server-redis", "worker-redis"] as const).flatMap((link): Fault[] => [
      { do: "network", link, how: "cutReplies", forMs: [50, 600] },
      { do: "network", link, how: "dropReplies", forMs: [50, 600] },
    ]),
    pauseMs: [100, 400],
  },
  {
    name: "full-memory",
    about: "Redis has reached its maxmemory: submissions get 500, deliveries continue",
    stores: ["redis"],
    faults: [{ do: "fillMemory", forMs: [500, 1500] }],
    pauseMs: [300, 900],
    drainsWithMemoryFull: true,
  },
  {
    name: "full-disk",
    about: "the store's disk is full",
    faults: [{ do: "fillDisk", forMs: [300, 1500] }],
    pauseMs: [300, 900],
  },
  {
    name: "slow-disk",
    about: "each fsync of the store takes up to half a second",
    faults: [{ do: "slowDisk", syncMs: [20, 500], forMs: [500, 2000] }],
    pauseMs: [300, 900],
  },
  {
    name: "network",
    about: "answers lost or late, connections half-open or reset, on any link",
    // A batch can be cut off five times in a row, which is evidence enough for a split. One with a refused sender needs it
    // to drain: nothing else ends its doubt.
    settings: { DOUBT_SPLIT_AFTER: "1m" },
    faults: network(["clients", "resend", "postmark"]),
    pauseMs: [100, 400],
    lanes: 2,
    mayHang: true,
  },
  {
    name: "network-redis",
    about: "the same between the service and Redis",
    stores: ["redis"],
    faults: network(["server-redis", "worker-redis"]),
    pauseMs: [100, 400],
    lanes: 2,
  },
  {
    name: "providers",
    about: "providers refuse, throttle, hang, reset, answer nonsense, and answer 5xx after accepting",
    faults: providerTrouble,
    pauseMs: [50, 300],
    lanes: 2,
  },
  {
    name: "outbox",
    about: "the sandbox delivers too, and fails in its own ways; workers are killed",
    settings: {
      PROVIDERS: "sandbox:4,resend:1,postmark:1",
      SANDBOX_FAULTS: "lose-answer:5%,lose-request:5%,unavailable:5%,throttle:5%",
    },
    faults: [{ do: "kill", component: "worker" }],
    pauseMs: [300, 900],
  },
  {
    name: "gateway",
    about: "a gateway answers instead of a provider, before or after the provider has accepted",
    faults: gateways,
    pauseMs: [50, 300],
    lanes: 2,
  },
  {
    name: "outage",
    about: "Resend accepts but answers 500 to everything, for longer than DOUBT_SPLIT_AFTER",
    settings: { PROVIDERS: "resend:1", DOUBT_SPLIT_AFTER: "500ms" },
    resend: { rateLimit: 50 },
    oneSender: true,
    faults: [
      {
        do: "provider",
        name: "resend",
        fault: faults.serverErrorAfterAccepting,
        probability: 1,
        forMs: [6000, 8000],
      },
    ],
    pauseMs: [500, 1000],
  },
  {
    name: "poison",
    about: "one email in 25 makes every request that contains it fail: 500, hang, reset, nonsense, refusal",
    poisonEvery: 25,
    // Isolating a poisoned email and giving it up takes many requests.
    rate: 80,
    faults: [],
    pauseMs: [0, 0],
    settings: { GIVE_UP_AFTER: "5s", DOUBT_TIMEOUT: "15s", DOUBT_SPLIT_AFTER: "1s" },
    resend: { rateLimit: 50 },
    limits: { withinMs: 20_000, withPoisonMs: 60_000 },
    mayDuplicateIfCounted: true,
  },
  {
    name: "clock",
    about: "the wall clock of all processes is an hour, a day or a year ahead or behind for a moment",
    stores: ["embedded"],
    faults: [wrongClock("service"), wrongClock("service"), wrongClock("service"), ...waits],
    pauseMs: [100, 500],
    lanes: 2,
    limits: afterClock,
    mayDuplicateAtPostmark: true,
    staysReady: true,
  },
  {
    name: "clock-redis",
    about: "the same for the clock of Redis or of the service, and replies of Redis are lost",
    stores: ["redis"],
    faults: [
      ...[1, 2, 3, 4].map(() => wrongClock("redis")),
      wrongClock("service"),
      { do: "network", link: "server-redis", how: "cutReplies", forMs: [50, 300] },
      { do: "network", link: "worker-redis", how: "cutReplies", forMs: [50, 300] },
      ...waits,
    ],
    pauseMs: [100, 500],
    lanes: 2,
    limits: afterClock,
    mayDuplicateAtPostmark: true,
    staysReady: true,
  },
  {
    name: "unknown-habits",
    about: "both possible behaviors of a provider where its documentation names none, and wrong keys",
    faults: [
      { do: "providerBehaves", name: "resend", as: { rememberRefusals: true }, forMs: briefly },
      { do: "providerBehaves", name: "resend", as: { unverifiedRefuses: "email" }, forMs: briefly },
      { do: "providerBehaves", name: "resend", as: { rateLimit: 5, limitBeforeKey: false }, forMs: briefly },
      { do: "providerBehaves", name: "resend", as: { rateLimit: 5, limitBeforeKey: true }, forMs: briefly },
      { do: "providerBehaves", name: "resend", as: { apiKey: "re_other" }, forMs: briefly },
      {
        do: "providerBehaves",
        name: "resend",
        as: { apiKey: "re_other", wrongKeyStatus: 401 },
        forMs: briefly,
      },
      { do: "providerBehaves", name: "resend", as: { workMs: 900 }, forMs: briefly },
      { do: "providerBehaves", name: "postmark", as: { refuses: "request" }, forMs: briefly },
      { do: "providerBehaves", name: "postmark", as: { rateLimit: 5, retryAfter: 1 }, forMs: briefly },
      { do: "providerBehaves", name: "postmark", as: { rateLimit: 5 }, forMs: briefly },
      { do: "providerBehaves", name: "postmark", as: { serverToken: "other" }, forMs: briefly },
      { do: "providerBehaves", name: "postmark", as: { pendingDomain: "example.net" }, forMs: briefly },
      { do: "kill", component: "worker" },
      ...forBoth((name) => ({
        do: "provider",
        name,
        fault: faults.resetAfterAccepting,
        probability: 0.5,
        forMs: briefly,
      })),
    ],
    pauseMs: [50, 300],
    lanes: 2,
    healedByRestart: true,
  },
  {
    name: "late-index",
    about: "Postmark finds an email later than the service waits for, and answers are lost",
    postmark: { indexDelayMs: 5000 },
    faults: [
      {
        do: "provider",
        name: "postmark",
        fault: faults.resetAfterAccepting,
        probability: 0.3,
        forMs: briefly,
      },
      { do: "kill", component: "worker" },
    ],
    pauseMs: [200, 600],
    mayDuplicateAtPostmark: true,
  },
  {
    name: "stale-settlements",
    about: "a worker frozen between an answer and its settlement, which continues after losing its lease",
    oneSender: true,
    workers: 4,
    settings: { PROVIDERS: "resend:1" },
    // Emails with files travel alone.
    resend: { rateLimit: 50 },
    faults: staleSettlements,
    pauseMs: [200, 400],
  },
  {
    name: "everything",
    about: "everything, two faults at a time",
    ...combined,
    stores: ["embedded"],
    faults: [
      ...Array.from({ length: 4 }, () => kills).flat(),
      ...serviceTrouble,
      ...Array.from({ length: 3 }, () => powerCut),
      { do: "fillDisk", forMs: briefly },
      { do: "slowDisk", syncMs: [20, 200], forMs: briefly },
      ...network(["clients", "resend", "postmark"]),
      ...providerTrouble,
    ],
  },
  {
    name: "everything-nodes",
    about: "everything, two faults at a time, with the faults of several nodes",
    ...combined,
    stores: ["sentinel", "cluster"],
    faults: [
      ...Array.from({ length: 4 }, () => kills).flat(),
      ...serviceTrouble,
      ...nodeFaults(["primary", "primary", "replica", "sentinel"], [300, 5000]),
      { do: "promote", forMs: briefly },
      { do: "promote", forMs: briefly },
      ...network(["clients", "resend", "postmark"]),
      ...providerTrouble,
    ],
    settings: { REDIS_MIN_REPLICAS: String(replicasPerPrimary) },
  },
  {
    name: "everything-redis",
    about: "everything, two faults at a time, with the faults of Redis",
    ...combined,
    stores: ["redis"],
    faults: [
      ...Array.from({ length: 4 }, () => redisKills).flat(),
      ...serviceTrouble,
      { do: "freeze", component: "redis", forMs: [300, 3000] },
      ...Array.from({ length: 3 }, () => powerCut),
      { do: "tearLog" },
      { do: "fillMemory", forMs: briefly },
      { do: "fillDisk", forMs: briefly },
      { do: "slowDisk", syncMs: [20, 200], forMs: briefly },
      ...network(["clients", "server-redis", "worker-redis", "resend", "postmark"]),
      ...providerTrouble,
    ],
  },
];
