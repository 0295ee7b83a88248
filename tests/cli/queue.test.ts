// The operator's commands as an operator uses them: processes next to a queue of either kind.

import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeEmail } from "../../lib/email/email.ts";
import { cliCommand, cliInTerminal, jsonOfCli, runCli } from "../support/cli.ts";
import { eventually } from "../support/eventually.ts";
import { startRedis } from "../support/redis.ts";
import { startServer, startWorker } from "../support/service.ts";
import { queueAdminOf, useProcesses } from "../support/processes.ts";
import { type ShapedQueue, shapeQueue, useShapedQueues } from "../support/queue_states.ts";
import { RedisConsumer } from "../../lib/queue/redis/consumer.ts";
import { serving } from "../queue/conformance_tools.ts";
import { silent } from "../support/log.ts";

const stack = useProcesses();
const commands = [
  ["stats"],
  ["list", "dead"],
  ["show", "some-id"],
  ["retry", "--all"],
  ["delete", "some-id"],
  ["pause"],
  ["resume"],
  ["clear", "--yes"],
];
const states = ["waiting", "retrying", "sending", "in-doubt", "sent", "dead"] as const;
const iso = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
const documented = readFileSync(join(import.meta.dir, "../../docs/json-output.md"), "utf8");
const undocumented = (document: object) =>
  Object.keys(document).filter((name) => !documented.includes(`\`${name}\``));
/** How output names the queue of these settings. */
const queueName = (env: Record<string, string>) =>
  env["DATA_DIR"] ?? `Redis at 127.0.0.1:${stack.redis.port}, keys under ${env["REDIS_PREFIX"]}`;
const unknownId = "01920000-0000-7000-8000-000000000001";

test("queue: stats shows a step of the store's clock for an hour", async () => {
  const env = stack.settings();
  let offsetMs = 0;
  const consumer = new RedisConsumer({
    url: stack.redis.url,
    prefix: env["REDIS_PREFIX"]!,
    minReplicas: 0,
    durability: "verify",
    retainMs: 3_600_000,
    log: silent,
    onFatal: () => {},
    clockOffsetMs: () => offsetMs,
  });
  try {
    await eventually("the queue exists", () => consumer.health().ok);
    await consumer.sweep(serving("resend"));
    expect(await jsonOfCli(env, ["queue", "stats"])).not.toHaveProperty("clock_stepped_at");
    offsetMs -= 30 * 60_000;
    await consumer.sweep(serving("resend"));
    const printed = await jsonOfCli(env, ["queue", "stats"]);
    expect(printed).toMatchObject({ clock_stepped_at: iso, restamped: 0 });
    expect(printed.clock_stepped_by_ms).toBeWithin(-31 * 60_000, -29 * 60_000);
    expect(undocumented(printed)).toEqual([]);
    const { stdout } = await runCli(env, "queue", "stats");
    expect(stdout).toMatch(/^Clock +stepped back by \d+m, \d+m ago; 0 impossible times corrected/m);
  } finally {
    await consumer.close();
  }
});

describe.each([
  ["the embedded queue", () => stack.embedded()],
  ["Redis", () => stack.settings()],
])("queue: on %s", (_, settings) => {
  const open = useShapedQueues(settings);
  const state = async (queue: ShapedQueue, id: string) => (await queue.admin.show(id))?.state;

  test("stats has a count under each state's name, and the condition of the queue", async () => {
    const { env, queue } = await open();
    expect(await jsonOfCli(env, ["queue", "stats"])).toEqual({
      at: iso,
      ...Object.fromEntries(["scheduled", ...states].map((name) => [name, 0])),
      file_bytes: 0,
      paused: false,
      moving: false,
      store: { ok: true, detail: expect.stringMatching(/every write/) },
      providers: {},
      possible_duplicates: 0,
      retried_by_operator: 0,
      restamped: 0,
      failures: [],
      failures_sampled: 0,
      dead_reasons: [],
      dead_sampled: 0,
      bytes_used: expect.any(Number),
      ...(env["DATA_DIR"] !== undefined && { bytes_max: expect.any(Number) }),
    });
    await queue.dead(3);
    await queue.dead(1, "rejected");
    await queue.retrying(2);
    await queue.inDoubt(2);
    await queue.sent();
    await queue.sending();
    await queue.submit(1);
    await queue.admin.setPaused(true);
    const printed = await jsonOfCli(env, ["queue", "stats"]);
    expect(
      undocumented({ ...printed, ...printed.failures[0], ...printed.store, ...printed.providers.resend }),
    ).toEqual([]);
    expect(printed).toMatchObject({
      waiting: 1,
      retrying: 2,
      sending: 1,
      "in-doubt": 2,
      sent: 1,
      dead: 4,
      paused: true,
      oldest_due_since: iso,
      oldest_in_doubt_since: iso,
      store: { ok: true },
      providers: {
        resend: { unknown: 2, last_accepted_at: iso, last_failed_at: iso, last_failure: "503 down" },
      },
      failures: expect.arrayContaining([
        { provider: "resend", reason: "503 down", emails: 2 },
        { provider: "resend", reason: "no answer: ECONNRESET", emails: 2 },
      ]),
      failures_sampled: 5,
      dead_reasons: [
        { reason: "401 API key is invalid", emails: 3 },
        { reason: "rejected", emails: 1 },
      ],
      dead_sampled: 4,
    });
    const { stdout, stderr, code } = await runCli(env, "queue", "stats");
    expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
    for (const line of [
      /^dead +4 +given up/m,
      /^Claims +paused/m,
      /^Store +.*every write/m,
      /^resend +accepted (now|\d+s ago)$/m,
      /^resend .* 2 /m,
      /^ +3 +401 API key is/m,
    ])
      expect(stdout).toMatch(line);
    expect(stdout).not.toContain("\u001b");
    expect(printed.providers.resend).not.toHaveProperty("failing_since");
  });

  test("stats shows the rate that workers share, and a pause", async () => {
    const { env, queue } = await open();
    const { consumer } = queue;
    const permit = { provider: "resend", credential: "c", startPerSecond: 2 };
    expect((await consumer.takePermit(permit)).isTaken).toBe(true);
    const change = { version: 0, factor: 0, step: 9, minPerSecond: 0.2, maxPerSecond: 9, throttles: 0 };
    const settle = async (pauseMs: number) => {
      const { batch } = await queue.sending();
      const fates = batch.emails.map(({ id }) => ({ id, kind: "sent", record: "{}" }) as const);
      const rate = { kind: "learned", ...change, limitPerSecond: 10, pauseMs, credential: "c" } as const;
      await consumer.settle(batch, { fates, counts: {}, rate });
    };
    await settle(0);
    const before = (await jsonOfCli(env, ["queue", "stats"])).providers.resend;
    expect(undocumented(before)).toEqual([]);
    expect(before).toMatchObject({ requests_per_second: 9, requests_per_second_limit: 10 });
    const { stdout } = await runCli(env, "queue", "stats");
    expect(stdout).toMatch(/^resend +accepted .*; at most 9 requests\/s, limit 10$/m);
    await settle(3_600_000);
    const { providers } = await jsonOfCli(env, ["queue", "stats"]);
    expect(providers.resend).toMatchObject({ requests_paused_until: iso });
    expect((await runCli(env, "queue", "stats")).stdout).toMatch(/^resend +accepted .*; no requests for /m);
  });

  test("stats shows since when and why a provider fails", async () => {
    const { env, queue } = await open();
    await queue.sent();
    await queue.retrying(1, "401 no such key");
    const { providers } = await jsonOfCli(env, ["queue", "stats"]);
    expect(undocumented(providers.resend)).toEqual([]);
    expect(providers.resend).toMatchObject({ failing_since: iso, last_failure: "401 no such key" });
    expect((await runCli(env, "queue", "stats")).stdout).toMatch(
      /^resend +failing for \d+s, last (now|\d+s ago): 401 no such key \(accepted (now|\d+s ago)\)$/m,
    );
  });

  test("stats shows why emails fail by the newest of them", async () => {
    const { env, queue } = await open();
    await queue.dead(2000, "old");
    await queue.dead(10_000, "new");
    const { dead_reasons, dead_sampled } = await jsonOfCli(env, ["queue", "stats"]);
    expect({ dead_reasons, dead_sampled }).toEqual({
      dead_reasons: [{ reason: "new", emails: 10_000 }],
      dead_sampled: 10_000,
    });
    expect((await runCli(env, "queue", "stats")).stdout).toContain("(of the newest 10,000 of 12,000)");
    const newest = await jsonOfCli(env, ["queue", "list", "dead", "--newest", "--limit", "3"]);
    expect(newest.map(({ reason }: { reason: string }) => reason)).toEqual(["new", "new", "new"]);
    const { stderr } = await runCli(env, "queue", "list", "dead", "--newest", "--limit", "3");
    expect(stderr).toBe("The newest 3 of 12,000: --limit shows more\n");
  });

  test("list fits a terminal of 80 columns, with whole ids, in every state", async () => {
    const { env, queue } = await open();
    const long = { subject: "a subject that goes on and on", to: "somebody.with.a.long.name@example.org" };
    const idOf = {
      dead: await queue.dead(1, "a reason that goes on and on", {}, long),
      sent: await queue.sent(),
      "in-doubt": (await queue.inDoubt()).ids,
      retrying: await queue.retrying(1, "503 a reason that goes on and on"),
      sending: (await queue.sending()).ids,
      waiting: await queue.submit(1, long),
    };
    for (const [state, [id]] of Object.entries(idOf)) {
      const child = cliInTerminal(env, ["queue", "list", state], 80);
      expect(await child.exited).toBe(0);
      const lines = child.shown().split("\n");
      expect(lines[1]).toStartWith(id!);
      expect(Math.max(...lines.map((line) => Bun.stringWidth(line)))).toBeLessThanOrEqual(80);
    }
  });

  test("list prints each email in a state, and show a whole email, in the documented shape", async () => {
    const { env, queue } = await open();
    const [dead] = await queue.dead(1, "no", {}, { to_name: "Jane", html: "<p>", reply_to: "r@example.com" });
    const [sent] = await queue.sent();
    const { ids: doubtful, batch } = await queue.inDoubt();
    const [retrying] = await queue.retrying();
    const { ids: sending, batch: held } = await queue.sending();
    const [waiting] = await queue.submit(1);
    const idOf = { dead, sent, "in-doubt": doubtful[0], retrying, sending: sending[0], waiting };
    const envelope = { to: "jane@example.org", from: "shop@example.com", subject: "Hi" };
    const common = { ...envelope, submitted_at: iso, attempts_total: 1 };
    const failed = (outcome: string, reason: string) => [
      { provider: "resend", at: "2023-11-14T22:13:20.000Z", outcome, reason },
    ];
    const shapes = {
      waiting: { ...common, due_at: iso, attempts: [], attempts_total: 0 },
      retrying: { ...common, due_at: iso, reason: "503 down", attempts: failed("unavailable", "503 down") },
      sending: {
        ...common,
        provider: "resend",
        batch: held.id,
        lease_ends_at: iso,
        attempts: [],
        attempts_total: 0,
      },
      "in-doubt": {
        ...common,
        reason: "no answer: ECONNRESET",
        provider: "resend",
        batch: batch.id,
        next_try_at: iso,
        in_doubt_since: iso,
        attempts: failed("unknown", "no answer: ECONNRESET"),
      },
      sent: {
        ...envelope,
        // As in its id.
        submitted_at: new Date(Number.parseInt(sent!.replace("-", "").slice(0, 12), 16)).toISOString(),
        sent_at: "2023-11-14T22:13:20.000Z",
        provider: "resend",
        provider_message_id: "the-message",
        batch: "the-batch",
        attempts: [],
        attempts_total: 0,
      },
      dead: {
        ...common,
        to_name: "Jane",
        reply_to: "r@example.com",
        died_at: iso,
        reason: "no",
        attempts: failed("rejected", "no"),
      },
    };
    for (const name of states) {
      const email = { id: idOf[name], state: name, ...shapes[name] };
      expect(undocumented(email)).toEqual([]);
      expect(await jsonOfCli(env, ["queue", "list", name])).toEqual([email]);
      const content = name === "sent" ? {} : { body: "Hello", ...(name === "dead" && { html: "<p>" }) };
      expect(await jsonOfCli(env, ["queue", "show", idOf[name]!])).toEqual({ ...email, ...content });
      const { stdout, stderr, code } = await runCli(env, "queue", "list", name);
      expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
      expect(stdout.split("\n")[1]).toStartWith(idOf[name]!);
    }
    const { stdout } = await runCli(env, "queue", "show", dead!);
    expect(stdout).toContain("Jane <jane@example.org>");
    expect(stdout).toMatch(/^State +dead: given up/m);
    expect(stdout).toMatch(/rejected +no$/m);
    expect(stdout).toEndWith("\nBody\nHello\n\nHTML\n<p>\n");
    await queue.admin.delete([waiting!]);
    expect(await jsonOfCli(env, ["queue", "show", waiting!])).toEqual({
      id: waiting,
      state: "deleted",
      attempts: [],
      attempts_total: 0,
    });
    expect(await runCli(env, "queue", "show", unknownId, "--json")).toEqual({
      code: 1,
      stdout: `{"error":"Unknown id: ${unknownId}"}\n`,
      stderr: `Unknown id: ${unknownId}\n`,
    });
  });

  test("show says that a dead worker has not reported, and until when a live one holds the batch", async () => {
    const { env, queue } = await open();
    const [lost] = await queue.leaseExpired();
    const reason = "its worker has not reported, and the lease has expired";
    const printed = await jsonOfCli(env, ["queue", "show", lost!]);
    expect(printed.in_doubt_since).toBe(printed.next_try_at);
    expect(printed).toMatchObject({ state: "in-doubt", reason, next_try_at: iso, attempts: [] });
    expect((await jsonOfCli(env, ["queue", "stats"])).failures).toEqual([
      { provider: "resend", reason, emails: 1 },
    ]);
    const { stdout } = await runCli(env, "queue", "show", lost!);
    expect(stdout).toMatch(/^Next try +2/m);
    expect(stdout).toContain(reason);
    expect((await runCli(env, "queue", "list", "in-doubt")).stdout).toMatch(/due (now|\d+s ago) /);

    await queue.reclaim();
    const held = await jsonOfCli(env, ["queue", "show", lost!]);
    expect(held).toMatchObject({ state: "in-doubt", reason, lease_ends_at: iso, in_doubt_since: iso });
    expect(held).not.toHaveProperty("next_try_at");
    expect((await runCli(env, "queue", "show", lost!)).stdout).toMatch(/^Lease ends +2/m);
    expect((await runCli(env, "queue", "list", "in-doubt")).stdout).toMatch(/lease ends in \d+m /);
  });

  test("list prints a hundred emails, or up to --limit, over any number of pages", async () => {
    const { env, queue } = await open();
    expect(await jsonOfCli(env, ["queue", "list", "dead"])).toEqual([]);
    const ids = (await queue.dead(2300)).toSorted();
    expect(await jsonOfCli(env, ["queue", "list", "dead"])).toHaveLength(100);
    for (const limit of [1, 7, 1000, 2299, 999_999, "9".repeat(400)]) {
      const emails: { id: string }[] = await jsonOfCli(env, [
        "queue",
        "list",
        "dead",
        "--limit",
        String(limit),
      ]);
      expect(emails).toHaveLength(Math.min(Number(limit), 2300));
      if (Number(limit) > 2300) expect(emails.map(({ id }) => id).toSorted()).toEqual(ids);
    }
    const { stdout, stderr } = await runCli(env, "queue", "list", "dead", "--limit", "1500");
    expect(stdout.match(/^ID /gm)).toHaveLength(1);
    expect(stdout.trimEnd().split("\n")).toHaveLength(1501);
    expect(stderr).toBe("The oldest 1,500 of 2,300: --limit shows more\n");
  });

  test("a reader that leaves in the middle of a list is not an error", async () => {
    const { env, queue } = await open();
    await queue.dead(2000);
    for (const json of [[], ["--json"]]) {
      const script = '"$@" 2>err | head -n 1; echo "${PIPESTATUS[0]} $(cat err)"; rm err';
      const args = cliCommand("queue", "list", "dead", "--limit", "2000", ...json);
      const child = Bun.spawn(["bash", "-c", script, "bash", ...args], {
        cwd: join(env["DATA_DIR"] ?? stack.redis.folder),
        env: { PATH: process.env["PATH"] ?? "", ...env },
        stdout: "pipe",
        stderr: "pipe",
      });
      expect((await child.stdout.text()).split("\n").slice(1)).toEqual(["0 ", ""]);
    }
  });

  test("an email cannot control the terminal, and a damaged one is shown as it is", async () => {
    const { env, queue } = await open();
    const hostile = "\u001b[2J\u009b31m\u202e";
    // No server would accept it, but another program may have written it.
    const [id] = await queue.dead(1, `no ${hostile}`, {}, { subject: hostile, body: `a\n${hostile}` });
    const damaged = await queue.damaged();
    for (const args of [["list", "dead"], ["show", id!], ["show", damaged], ["stats"]]) {
      for (const json of [[], ["--json"]]) {
        const { stdout, code } = await runCli(env, "queue", ...args, ...json);
        expect(code).toBe(0);
        // oxlint-disable-next-line no-control-regex
        expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
      }
    }
    expect((await jsonOfCli(env, ["queue", "show", id!])).subject).toBe(hostile);
    expect(await jsonOfCli(env, ["queue", "show", damaged])).toMatchObject({
      state: "dead",
      unreadable: true,
      outcome_unknown: true,
    });
    expect((await runCli(env, "queue", "show", damaged)).stdout).toEndWith("no JSON\nat all \\x1b[2J\n");
    expect((await runCli(env, "queue", "show", `x${hostile}`)).stderr).toBe(
      "Unknown id: x\\x1b[2J\\x9b31m\\u202e\n",
    );
  });

  test("a damaged email that is still JSON hides no other email", async () => {
    const { env, queue } = await open();
    await queue.dead();
    const text = encodeEmail({ to: "a@example.org", from: "b@example.org", subject: "Hi", body: "Hello" });
    const damaged = [
      await queue.damaged(text, '{"attempts":5}'),
      await queue.damaged(text, '{"deadReason":5}'),
      await queue.damaged('{"to":5}\n{}', '{"deadReason":"no"}'),
    ];
    for (const args of [["stats"], ["list", "dead"], ...damaged.map((id) => ["show", id])]) {
      const { code, stderr } = await runCli(env, "queue", ...args);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    }
    const listed: { id: string; unreadable?: boolean }[] = await jsonOfCli(env, ["queue", "list", "dead"]);
    expect(listed).toHaveLength(4);
    expect(listed.filter(({ unreadable }) => unreadable).map(({ id }) => id)).toEqual(damaged);
    expect((await jsonOfCli(env, ["queue", "stats"])).dead_sampled).toBe(4);
  });

  describe("retry", () => {
    test("with ids sends dead letters again, keeps their attempts, and names the others", async () => {
      const { env, queue } = await open();
      const [a, b] = await queue.dead(2);
      const [unclear] = await queue.dead(1, "gone", { doubted: true });
      const { ids: doubtful } = await queue.inDoubt();
      const [retrying] = await queue.retrying();
      const [sent] = await queue.sent();
      const { ids: sending } = await queue.sending();
      const args = [
        "queue",
        "retry",
        a!,
        b!,
        a!,
        unclear!,
        doubtful[0]!,
        retrying!,
        sent!,
        sending[0]!,
        unknownId,
      ];
      const printed = await jsonOfCli(env, args, 1);
      expect(printed).toEqual({
        queue: queueName(env),
        retried: expect.arrayContaining([a, b]),
        possible_duplicates: [],
        held_back: [],
        failed: expect.arrayContaining([
          { id: unclear, problem: "outcome-unknown" },
          { id: doubtful[0], problem: "in-doubt" },
          { id: retrying, problem: "retrying" },
          { id: sent, problem: "sent" },
          { id: sending[0], problem: "sending" },
          { id: unknownId, problem: "unknown" },
        ]),
      });
      expect(undocumented({ ...printed, ...printed.failed[0] })).toEqual([]);
      expect(printed.retried).toHaveLength(2);
      expect(await jsonOfCli(env, ["queue", "show", a!])).toMatchObject({
        state: "waiting",
        retried_at: iso,
        attempts: [{ provider: "resend", outcome: "rejected", reason: "401 API key is invalid" }],
      });
      const again = await runCli(env, "queue", "retry", a!);
      expect(again).toEqual({
        code: 1,
        stdout: `0 emails back to waiting (queue in ${queueName(env)})\n`,
        stderr: `${a} is not a dead letter: it is waiting\n`,
      });
      expect((await queue.admin.stats()).counters).toMatchObject({ replayed: 2 });
    });

    test("with --all takes those with the reason, and possibly sent ones only with --force", async () => {
      const { env, queue } = await open();
      await queue.dead(3, "401 key");
      const other = await queue.dead(2, "422 address");
      const unclear = await queue.dead(2, "401 key", { doubted: true });
      const { ids: doubtful } = await queue.inDoubt();
      const first = await jsonOfCli(env, ["queue", "retry", "--all", "--reason", "401"]);
      expect(first.retried).toHaveLength(3);
      expect(first).toMatchObject({ possible_duplicates: [], failed: [] });
      expect(first.held_back.toSorted()).toEqual(unclear.toSorted());
      expect((await queue.admin.stats()).states).toMatchObject({ dead: 4, waiting: 3 });

      const { stdout, stderr, code } = await runCli(
        env,
        "queue",
        "retry",
        "--all",
        "--reason",
        "401",
        "--force",
      );
      expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
      expect(stdout).toStartWith(
        `2 emails back to waiting (queue in ${queueName(env)})\n2 possible duplicates among them:\n`,
      );
      for (const id of unclear) expect(stdout).toContain(id);
      expect(await runCli(env, "queue", "retry", "--all")).toEqual({
        code: 0,
        stdout: `2 emails back to waiting (queue in ${queueName(env)})\n`,
        stderr: "",
      });
      expect(await state(queue, other[0]!)).toBe("waiting");
      expect(await state(queue, doubtful[0]!)).toBe("in-doubt");
      const { counters } = await queue.admin.stats();
      expect(counters).toMatchObject({ replayed: 7, possible_duplicates: 2 });
      // Run again, it finds nothing to do.
      expect(await jsonOfCli(env, ["queue", "retry", "--all"])).toMatchObject({ retried: [], failed: [] });
    });

    test("with --force ends the doubt of a whole batch, and names all its emails", async () => {
      const { env, queue } = await open();
      const { ids, batch } = await queue.inDoubt(3);
      const others = await queue.inDoubt(2);
      const printed = await jsonOfCli(env, ["queue", "retry", "--force", ids[1]!, ids[0]!]);
      expect(printed).toMatchObject({ held_back: [], failed: [] });
      expect(printed.retried.toSorted()).toEqual(ids.toSorted());
      expect(printed.possible_duplicates.toSorted()).toEqual(ids.toSorted());
      for (const id of ids) {
        const email = await jsonOfCli(env, ["queue", "show", id]);
        expect(email).toMatchObject({ state: "waiting", attempts_total: 2, possible_duplicate: true });
        expect(email.batch).toBeUndefined();
      }
      expect((await runCli(env, "queue", "show", ids[0]!)).stdout).toMatch(
        /^Duplicate +possible: it was or will be sent again/m,
      );
      expect(await state(queue, others.ids[0]!)).toBe("in-doubt");
      expect((await queue.admin.stats()).counters).toMatchObject({ possible_duplicates: 3, replayed: 3 });
      expect(batch.emails).toHaveLength(3);
    });

    test("is refused for a batch in doubt while a worker has it", async () => {
      const { env, queue } = await open();
      const { ids } = await queue.inDoubt(1, 0);
      await queue.reclaim();
      expect(await jsonOfCli(env, ["queue", "retry", "--force", ids[0]!], 1)).toMatchObject({
        retried: [],
        failed: [{ id: ids[0], problem: "busy" }],
      });
    });
  });

  test("delete deletes emails that are in no batch, and names the rest", async () => {
    const { env, queue } = await open();
    const [dead] = await queue.dead();
    const [sent] = await queue.sent();
    const { ids: doubtful } = await queue.inDoubt();
    const [waiting] = await queue.submit(1);
    const printed = await jsonOfCli(
      env,
      ["queue", "delete", dead!, waiting!, sent!, doubtful[0]!, unknownId],
      1,
    );
    expect(printed).toEqual({
      queue: queueName(env),
      deleted: 2,
      failed: [
        { id: sent, problem: "sent" },
        { id: doubtful[0], problem: "in-batch" },
        { id: unknownId, problem: "unknown" },
      ],
    });
    expect(await state(queue, dead!)).toBe("deleted");
    expect(await runCli(env, "queue", "delete", dead!)).toEqual({
      code: 1,
      stdout: `0 emails deleted (queue in ${queueName(env)})\n`,
      stderr: `${dead} was deleted before\n`,
    });
  });

  test("delete --all-dead and clear do nothing without confirmation, and leave other emails alone", async () => {
    const { env, queue } = await open();
    await queue.dead(1200);
    await queue.inDoubt(2);
    await queue.sending();
    await queue.retrying(3);
    await queue.submit(1100);
    for (const args of [["delete", "--all-dead"], ["clear"]]) {
      const { code, stdout, stderr } = await runCli(env, "queue", ...args, "--json");
      expect(stderr).toMatch(/^Not confirmed: .*--yes/);
      expect({ code, stdout }).toEqual({
        code: 1,
        stdout: `${JSON.stringify({ error: stderr.trimEnd() })}\n`,
      });
    }
    expect((await queue.admin.stats()).states).toMatchObject({ dead: 1200, waiting: 1100, retrying: 3 });
    expect(await jsonOfCli(env, ["queue", "clear", "--yes"])).toEqual({
      queue: queueName(env),
      deleted: 1103,
      left: { sending: 1, "in-doubt": 2, dead: 1200 },
    });
    expect(await jsonOfCli(env, ["queue", "delete", "--all-dead", "--yes"])).toEqual({
      queue: queueName(env),
      deleted: 1200,
      failed: [],
    });
    // Nothing to delete: no question.
    expect(await runCli(env, "queue", "clear")).toEqual({
      code: 0,
      stdout: `Nothing to delete. Left: 3 emails in batches, 0 dead letters (queue in ${queueName(env)})\n`,
      stderr: "",
    });
    expect(await runCli(env, "queue", "delete", "--all-dead")).toEqual({
      code: 0,
      stdout: `There are no dead letters (queue in ${queueName(env)})\n`,
      stderr: "",
    });
  });

  test("at a terminal they ask, and accept only yes", async () => {
    const { env, queue } = await open();
    await queue.dead(2);
    for (const answer of ["\n", "n\n", "yesterday\n", "\u0004"]) {
      const asked = cliInTerminal(env, ["queue", "delete", "--all-dead"]);
      await asked.prints(`Delete 2 dead letters permanently (queue in ${queueName(env)})? [y/N] `);
      asked.type(answer);
      expect(await asked.exited).toBe(1);
      expect(asked.shown()).toContain("Not confirmed: nothing was done");
    }
    expect((await queue.admin.stats()).states.dead).toBe(2);
    const asked = cliInTerminal(env, ["queue", "delete", "--all-dead"]);
    await asked.prints("[y/N] ");
    asked.type("y\n");
    expect(await asked.exited).toBe(0);
    expect(asked.shown()).toContain("2 emails deleted");
    expect((await queue.admin.stats()).states.dead).toBe(0);
  });

  test("clear asks about one email in the singular", async () => {
    const { env, queue } = await open();
    await queue.submit(1);
    const { stderr } = await runCli(env, "queue", "clear");
    expect(stderr).toContain("Delete 1 scheduled, waiting or retrying email permanently (queue in ");
  });

  test("clear leaves emails that are submitted after its question", async () => {
    const { env, queue } = await open();
    await queue.retrying(2);
    await queue.submit(3);
    const asked = cliInTerminal(env, ["queue", "clear"]);
    await asked.prints("Delete 5 scheduled, waiting or retrying emails permanently (queue in ");
    await asked.prints(")? [y/N] ");
    const since = await queue.submit(4);
    asked.type("y\n");
    expect(await asked.exited).toBe(0);
    expect(asked.shown()).toContain("5 emails deleted");
    expect(await Promise.all(since.map((id) => state(queue, id)))).toEqual(since.map(() => "waiting"));
    expect((await queue.admin.stats()).states).toMatchObject({ waiting: 4, retrying: 0 });
  });

  test("pause and resume report the state, and can be repeated", async () => {
    const { env, queue } = await open();
    for (const [command, paused] of [
      ["pause", true],
      ["pause", true],
      ["resume", false],
      ["resume", false],
    ] as const) {
      expect(await jsonOfCli(env, ["queue", command])).toEqual({ queue: queueName(env), paused });
      expect((await queue.admin.stats()).paused).toBe(paused);
    }
    expect((await runCli(env, "queue", "pause")).stdout).toStartWith(
      `Paused the queue in ${queueName(env)}: nothing more is claimed until`,
    );
  });

  test("at a terminal tables fit its width, with colors unless NO_COLOR is set", async () => {
    const { env, queue } = await open();
    await queue.dead(
      1,
      "a reason that is far longer than there is room for in a line of a terminal",
      {},
      {
        to: `${"long".repeat(12)}@example.org`,
      },
    );
    await queue.dead();
    const shown = async (over: Record<string, string>) => {
      const child = cliInTerminal({ ...env, ...over }, ["queue", "list", "dead", "--limit", "1"], 90);
      expect(await child.exited).toBe(0);
      return child.shown().trimEnd().split("\n");
    };
    const plain = await shown({ NO_COLOR: "1" });
    expect(plain.join("\n")).not.toContain("\u001b[");
    expect(plain).toHaveLength(3);
    expect(plain[2]).toBe("The oldest 1 of 2: --limit shows more");
    for (const line of plain) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(90);
    expect(plain[1]).toContain("…");
    expect((await shown({})).join("\n")).toContain("\u001b[2mID");
    expect((await shown({ TERM: "dumb" })).join("\n")).not.toContain("\u001b[");
  });
});

test("queue: stats says why Redis is not reliable, even if it hides its settings", async () => {
  const redis = await startRedis();
  const env = { REDIS_URL: redis.url };
  try {
    await (await queueAdminOf(env)).close();
    redis.cli("CONFIG", "SET", "appendfsync", "everysec");
    const detail = expect.stringMatching(/^appendfsync is everysec: .*CONFIG SET appendfsync always/);
    expect((await jsonOfCli(env, ["queue", "stats"])).store).toEqual({ ok: false, detail });
    const { stdout, code } = await runCli(env, "queue", "stats");
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Store +cannot be relied on: appendfsync is everysec/m);
    redis.cli("ACL", "SETUSER", "shy", "on", ">secret", "~*", "&*", "+@all", "-config");
    const shy = { REDIS_URL: redis.url.replace("redis://", "redis://shy:secret@") };
    const hidden = expect.stringMatching(/^CONFIG GET is refused .*REDIS_DURABILITY=trust/);
    expect((await jsonOfCli(shy, ["queue", "stats"])).store).toEqual({ ok: false, detail: hidden });
    const vouched = expect.stringContaining("not checked");
    const trusted = await jsonOfCli({ ...shy, REDIS_DURABILITY: "trust" }, ["queue", "stats"]);
    expect(trusted.store).toEqual({ ok: true, detail: vouched });
    // A problem that may end on its own is waited for, but not for long.
    const alone = await jsonOfCli({ ...shy, REDIS_DURABILITY: "trust", REDIS_MIN_REPLICAS: "1" }, [
      "queue",
      "stats",
    ]);
    expect(alone.store).toEqual({ ok: false, detail: expect.stringContaining("REDIS_MIN_REPLICAS is 1") });
  } finally {
    await redis.stop();
  }
});

describe("queue: a queue that cannot be used", () => {
  test("an invalid setting is reported with exit code 2", async () => {
    const ran = await runCli({ PORT: "x", DATA_DIR: "/nowhere" }, "queue", "stats");
    expect(ran).toMatchObject({ code: 2, stdout: "", stderr: expect.stringContaining('PORT "x" is not') });
  });

  test("a missing Redis or a wrong password is reported without the password, with exit code 1", async () => {
    const locked = await startRedis();
    locked.cli("CONFIG", "SET", "requirepass", "another");
    const unanswered = runCli({ REDIS_URL: "redis://u:a-password@127.0.0.1:1" }, "queue", "stats", "--json");
    await Promise.all(
      (
        [
          [":a-password@", "WRONGPASS"],
          ["", "NOAUTH"],
        ] as const
      ).map(async ([login, refusal]) => {
        const asked = runCli({ REDIS_URL: `redis://${login}127.0.0.1:${locked.port}` }, "queue", "stats");
        // An error that waiting cannot fix is reported before the wait is over.
        const ran = await Promise.race([unanswered, asked]);
        expect(ran).toMatchObject({ code: 1, stdout: "" });
        expect(ran.stderr).toContain(`Redis at 127.0.0.1:${locked.port}`);
        expect(ran.stderr).toContain(refusal);
        expect(ran.stderr).not.toContain("a-password");
      }),
    );
    await locked.stop();
    const failed = await unanswered;
    expect(failed.code).toBe(1);
    expect(JSON.parse(failed.stdout)).toEqual({ error: failed.stderr.trimEnd() });
    expect(failed.stderr).toStartWith(
      "The queue does not answer (Redis at 127.0.0.1:1, keys under reliable-email): ",
    );
    expect(failed.stderr).not.toContain("a-password");
  });

  test("a folder that cannot contain a queue is reported with exit code 1", async () => {
    const file = join(tmpdir(), `reliable-email-file-${process.pid}`);
    writeFileSync(file, "");
    const ran = await runCli({ DATA_DIR: join(file, "data") }, "queue", "stats");
    rmSync(file);
    expect(ran).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("DATA_DIR") });
  });

  test.each(commands)("%j without a queue says so with exit code 1, and creates none", async (...args) => {
    const env = stack.embedded();
    const none = "no server and no worker has started on it";
    const onRedis = `${none}, or none has found it durable: see \`config --check\`\n`;
    expect(await runCli(env, "queue", ...args)).toEqual({
      code: 1,
      stdout: "",
      stderr: `There is no queue in ${env["DATA_DIR"]} (DATA_DIR): ${none}\n`,
    });
    expect(await jsonOfCli(env, ["queue", ...args], 1)).toEqual({
      error: `There is no queue in ${env["DATA_DIR"]} (DATA_DIR): ${none}`,
    });
    expect(existsSync(env["DATA_DIR"]!)).toBe(false);
    const prefix = `nobodys-${args.join("-")}`;
    expect(await runCli({ ...stack.settings(), REDIS_PREFIX: prefix }, "queue", ...args)).toEqual({
      code: 1,
      stdout: "",
      stderr: `There is no queue under prefix ${prefix} in Redis at 127.0.0.1:${stack.redis.port} (REDIS_PREFIX): ${onRedis}`,
    });
    expect(stack.redis.cli("KEYS", `*${prefix}*`)).toBe("");
  });

  test("a file without a queue's tables counts as no queue", async () => {
    const env = stack.embedded();
    mkdirSync(env["DATA_DIR"]!);
    const file = join(env["DATA_DIR"]!, "queue.db");
    writeFileSync(file, "");
    const ran = await runCli(env, "queue", "pause");
    expect(ran).toMatchObject({ code: 1, stderr: expect.stringContaining("There is no queue in") });
    expect(readdirSync(env["DATA_DIR"]!)).toEqual(["queue.db"]);
    expect(readFileSync(file, "utf8")).toBe("");
  });

  test.each([
    ["server", () => stack.embedded(), startServer],
    ["worker", () => stack.embedded(), startWorker],
    ["server", () => stack.settings(), startServer],
    ["worker", () => stack.settings(), startWorker],
  ])("a queue that a %s has created can be paused before its first email", async (_, settings, start) => {
    const env = settings();
    const started = await start(env);
    if ("REDIS_URL" in env)
      await eventually(
        "it is created",
        () => stack.redis.cli("KEYS", `*${env["REDIS_PREFIX"]}:0}:format`) !== "",
      );
    await started.kill("SIGTERM");
    expect(await jsonOfCli(env, ["queue", "pause"])).toEqual({ queue: queueName(env), paused: true });
    expect(await jsonOfCli(env, ["queue", "stats"])).toMatchObject({ paused: true });
  });

  test.each([
    [["queue"], "Which command?", "queue"],
    [
      ["queue", "look"],
      "Unknown command 'look': the commands are stats, list, show, retry, delete, pause, resume, clear, move",
      "queue",
    ],
    [["queue", "stats", "now"], "Unexpected argument 'now'", "queue stats"],
    [
      ["queue", "list"],
      "Which state? The states are scheduled, waiting, retrying, sending, in-doubt, sent, dead",
      "queue list",
    ],
    [
      ["queue", "list", "deleted"],
      "Unknown state 'deleted': the states are scheduled, waiting, retrying, sending, in-doubt, sent, dead",
      "queue list",
    ],
    ...["many", "0", "-0", "1e99", "1.5", ""].map(
      (limit) =>
        [
          ["queue", "list", "dead", `--limit=${limit}`],
          `--limit ${limit} is not a whole number of at least 1`,
          "queue list",
        ] as const,
    ),
    [
      ["queue", "list", "dead", "--limit", "-1"],
      "A value that begins with '-' is given as --limit=VALUE",
      "queue list",
    ],
    [["queue", "show"], "Which email?", "queue show"],
    [["queue", "show", "a", "b"], "Unexpected argument 'b'", "queue show"],
    [["queue", "retry"], "Which emails? Give their ids, or --all", "queue retry"],
    [["queue", "retry", "--all", "a"], "Use either --all or ids, not both", "queue retry"],
    [["queue", "retry", "--all", "--reason", ""], "--reason is empty", "queue retry"],
    [["queue", "delete"], "Which emails? Give their ids, or --all-dead", "queue delete"],
    [["queue", "delete", "a", "--all-dead"], "Use either --all-dead or ids, not both", "queue delete"],
    [["queue", "pause", "--yes"], "Unknown option '--yes'", "queue pause"],
    [["queue", "clear", "waiting"], "Unexpected argument 'waiting'", "queue clear"],
  ] as const)("%j is a usage error on stderr", async (args, usageError, command) => {
    expect(await runCli({}, ...args)).toEqual({
      code: 2,
      stdout: "",
      stderr: `${usageError}\nTry: reliable-email ${command} --help\n`,
    });
  });

  test.each(["stats", "list", "show", "retry", "delete", "pause", "resume", "clear"])(
    "%s --help names --json, in lines that fit a terminal",
    async (name) => {
      const { code, stdout, stderr } = await runCli({}, "queue", name, "--help");
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(stdout).toStartWith(`Usage: reliable-email queue ${name}`);
      expect(stdout).toContain("--json");
      expect(stdout.split("\n").filter((line) => line.length > 80)).toEqual([]);
      expect((await runCli({}, "help", "queue", name)).stdout).toBe(stdout);
      expect((await runCli({}, "queue", "--help")).stdout).toMatch(new RegExp(`^  ${name} `, "m"));
    },
  );
});

test("cli: output to a pipe that is full for a while arrives whole", async () => {
  const env = stack.embedded();
  const queue = await shapeQueue(env);
  const ids = await queue.dead(1500);
  await queue.close();
  // A non-blocking pipe, as another owner may have made it, that nobody reads at first.
  const script = `
import array, fcntl, os, subprocess, sys, termios, time
r, w = os.pipe()
fcntl.fcntl(w, fcntl.F_SETFL, fcntl.fcntl(w, fcntl.F_GETFL) | os.O_NONBLOCK)
child = subprocess.Popen(sys.argv[1:], stdout=w)
os.close(w)
get_pipe_size, held = 1032, array.array("i", [0])
size = fcntl.fcntl(r, get_pipe_size)
while held[0] < size and child.poll() is None:
    time.sleep(0.01)
    fcntl.ioctl(r, termios.FIONREAD, held)
assert held[0] == size, "it was never full"
sys.stdout.buffer.write(b"".join(iter(lambda: os.read(r, 4096), b"")))
sys.stdout.flush()
sys.exit(child.wait())`;
  const child = Bun.spawn(
    ["python3", "-c", script, ...cliCommand("queue", "list", "dead", "--limit", "1500", "--json")],
    {
      env: { PATH: process.env["PATH"] ?? "", ...env },
      cwd: tmpdir(),
      stdout: "pipe",
      stderr: "inherit",
    },
  );
  const out = await new Response(child.stdout).text();
  expect(await child.exited).toBe(0);
  expect(JSON.parse(out)).toHaveLength(ids.length);
});
