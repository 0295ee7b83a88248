// `queue move`, step by step: what each step changes and reports, and what an interruption leaves behind.

import { expect, test } from "bun:test";
import { startProxy } from "../../fakes/tcp_proxy.ts";
import { ask } from "../../lib/cli/queue/move_steps.ts";
import { readConfig } from "../../lib/config/config.ts";
import { decodeEmail, isHidden } from "../../lib/email/email.ts";
import { asDead, encodeMemory, noHistory } from "../../lib/policy/history.ts";
import { withdrawnHistory } from "../../lib/policy/withdrawal.ts";
import type { Admin } from "../../lib/queue/contract.ts";
import { cliCommand, jsonOfCli, runCli } from "../support/cli.ts";
import { fileOf, type Settings } from "../support/env_file.ts";
import { eventually } from "../support/eventually.ts";
import { queueAdminOf, useProcesses } from "../support/processes.ts";
import { shapeQueue } from "../support/queue_states.ts";
import { startCommand } from "../support/service.ts";

const stack = useProcesses();

const pairs = [
  ["from Redis to Redis", stack.settings, stack.settings],
  ["from the embedded queue to Redis", stack.embedded, stack.settings],
  ["from Redis to the embedded queue", stack.settings, stack.embedded],
] as const;

/** A queue with emails to move, and the one that it moves to. */
async function prepare(from: () => Settings, to: () => Settings) {
  const [source, target] = [from(), to()];
  const queue = await shapeQueue(source);
  const admin = await queueAdminOf(target);
  const file = fileOf(target);
  return {
    source,
    target,
    queue,
    admin,
    file,
    move: (code = 0, ...options: string[]) => jsonOfCli(source, ["queue", "move", file, ...options], code),
    close: () => Promise.all([queue.close(), admin.close()]),
  };
}

/** Adds dead letters to a queue as a command does that is killed before it has deleted them at the source. */
async function adopt(to: Admin, from: Admin, ids: readonly string[]): Promise<void> {
  for (const id of ids) {
    const { text, submittedAtMs, atMs, history } = (await from.show(id))!;
    const letter = { id, text: text!, submittedAtMs: submittedAtMs!, diedAtMs: atMs!, history };
    await to.adopt([{ ...letter, isHidden: isHidden(decodeEmail(text!)) }]);
  }
}

const stateIn = async (admin: Admin, id: string) => (await admin.show(id))?.state;

test.each(pairs)("queue move: %s, each step does its part and reports what is left", async (_, from, to) => {
  const one = await prepare(from, to);
  const { source, queue, admin, move } = one;
  const use = { id: Bun.randomUUIDv7(), fingerprint: "f", token: "", lifeMs: 3_600_000 };
  await queue.admin.rememberKeys([{ key: "k", uses: [use] }]);
  const [died = ""] = await queue.dead(1);
  const shown = (await queue.admin.show(died))!;

  expect(await move(0, "--copy")).toMatchObject({
    step: "copied",
    keys: { copied: 1, added: 1, conflicts: 0 },
  });
  expect(await move(0, "--copy")).toMatchObject({
    step: "copied",
    keys: { copied: 1, added: 0, conflicts: 0 },
  });
  expect((await admin.listKeys(10)).keys).toMatchObject([{ key: "k", uses: [{ id: use.id }] }]);
  expect((await queue.admin.stats()).moving).toBe(false);
  expect((await queue.admin.stats()).states.dead).toBe(1);

  expect((await move(1)).error).toStartWith("Not closed yet");

  await queue.admin.rememberKeys([{ key: "used-meanwhile", uses: [use] }]);
  expect(await move(0, "--close")).toMatchObject({ step: "closed", keys: { added: 1 } });
  expect((await jsonOfCli(source, ["queue", "stats"])).moving).toBe(true);
  expect((await runCli(source, "queue", "stats")).stdout).toMatch(/^Move +the queue is being moved: /m);
  expect((await queue.admin.stats()).states.dead).toBe(1);

  await queue.retrying(1);
  const { batch } = await queue.inDoubt(2);
  await queue.sending(3);
  await queue.submit(4);
  const report = await move(1, "--no-wait");
  expect(report).toMatchObject({
    step: "emptied",
    dead_letters_moved: 1,
    failed: [],
    left: { waiting: 4, retrying: 1, sending: 3, "in-doubt": 2, dead: 0 },
    paused: false,
  });
  expect(await admin.show(died)).toEqual(shown);
  expect(await stateIn(queue.admin, died)).toBe("deleted");
  for (const time of ["retrying_until", "sending_until"]) {
    expect(Date.parse(report[time]) - batch.nowMs).toBeWithin(0, 3_600_000);
  }
  // DOUBT_TIMEOUT after doubt was recorded.
  expect(Date.parse(report.in_doubt_until) - batch.nowMs).toBeWithin(23 * 3_600_000 - 1, 24 * 3_600_000);
  const { code, stdout } = await runCli(source, "queue", "move", one.file, "--no-wait");
  expect(code).toBe(1);
  expect(stdout).toMatch(
    /^Left in the old queue: 4 waiting, 1 retrying \(the last is due in .*\), 3 being sent \(.*\), 2 in doubt \(.* in 2[23]h\)$/m,
  );
  await one.close();
});

test.each(pairs)(
  "queue move: %s, letters that an interrupted command left in both queues stay in the new one alone",
  async (_, from, to) => {
    const one = await prepare(from, to);
    const { source, target, queue, admin, move } = one;
    const dead = await queue.dead(5);
    await move(0, "--close");
    await adopt(admin, queue.admin, dead.slice(0, 3));
    // Here they may have been retried, or deleted.
    await runCli(target, "queue", "retry", dead[0]!);
    await runCli(target, "queue", "delete", dead[1]!);

    const refused = await runCli(source, "queue", "retry", "--all");
    expect(refused).toMatchObject({ code: 1, stdout: "" });
    expect(refused.stderr).toContain("retry in the new queue");
    const named = await jsonOfCli(source, ["queue", "retry", dead[2]!], 1);
    expect(named.failed).toEqual([{ id: dead[2], problem: "moving" }]);

    expect(await move(1, "--no-wait")).toMatchObject({
      dead_letters_moved: 4,
      failed: [{ id: dead[1], problem: "deleted-at-target" }],
      left: { dead: 1 },
    });
    const states = await Promise.all(dead.map((id) => stateIn(admin, id)));
    expect(states).toEqual(["waiting", "deleted", "dead", "dead", "dead"]);
    const old = await Promise.all(dead.map((id) => stateIn(queue.admin, id)));
    expect(old).toEqual(["deleted", "dead", "deleted", "deleted", "deleted"]);
    // It does not wait for a letter that it cannot move.
    expect(await move(1)).toMatchObject({ left: { dead: 1 } });
    await runCli(source, "queue", "delete", dead[1]!);
    expect(await move()).toMatchObject({ dead_letters_moved: 0, left: { dead: 0 } });
    await one.close();
  },
);

test.each(pairs)(
  "queue move: %s, dead letters move with their files, copies and tags",
  async (_, from, to) => {
    const one = await prepare(from, to);
    const { queue, admin, move } = one;
    const files = [new Uint8Array(700_000).fill(7), new Uint8Array([0, 255, 10])];
    const attachments = files.map((content, i) => ({
      filename: `${i}.bin`,
      content_type: "application/octet-stream",
      size: content.length,
      sha256: new Bun.CryptoHasher("sha256").update(content).digest("hex"),
    }));
    const email = { attachments, bcc: ["b@example.org"], tags: [["campaign", "welcome"]] } as const;
    const whole = await queue.dead(2, "no", {}, email, files);
    const plain = await queue.dead(2);
    const shown = await Promise.all([...whole, ...plain].map((id) => queue.admin.show(id)));
    await move(0, "--close");
    expect(await move()).toMatchObject({ dead_letters_moved: 4, failed: [], left: { dead: 0 } });
    expect(await Promise.all([...whole, ...plain].map((id) => admin.show(id)))).toEqual(shown);
    for (const id of whole) {
      expect(Buffer.concat(files).equals((await admin.readFiles(id))!)).toBe(true);
      expect(await queue.admin.readFiles(id)).toBeUndefined();
    }
    const bytes = async (of: Admin) => (await of.stats()).fileBytes;
    expect([await bytes(queue.admin), await bytes(admin)]).toEqual([0, 2 * 700_003]);
    await one.close();
  },
);

const inDays = (days: number) => new Date(Date.now() + days * 24 * 3_600_000).toISOString();

test.each(pairs)(
  "queue move: %s, scheduled emails move with their files, for the same time",
  async (_, from, to) => {
    const one = await prepare(from, to);
    const { source, queue, admin, file, move } = one;
    const content = new Uint8Array(700_000).fill(7);
    const about = { filename: "a.txt", content_type: "text/plain", size: content.length, sha256: "" };
    const email = { send_at: inDays(10), attachments: [about] };
    const ids = [
      ...(await queue.submit(2, { send_at: inDays(20) })),
      ...(await queue.submit(1, email, [content])),
    ];
    const before = await Promise.all(ids.map((id) => queue.admin.show(id)));
    await move(0, "--close");
    expect(await move()).toMatchObject({
      step: "emptied",
      dead_letters_moved: 0,
      scheduled_moved: 3,
      failed: [],
      left: { scheduled: 0, dead: 0 },
    });
    expect(await Promise.all(ids.map((id) => admin.show(id)))).toEqual(before);
    expect(Buffer.from((await admin.readFiles(ids[2]!))!).equals(content)).toBe(true);
    expect((await admin.stats()).states).toMatchObject({ scheduled: 3, dead: 0 });
    for (const id of ids) expect(await stateIn(queue.admin, id)).toBe("deleted");
    expect((await admin.stats()).counters).toEqual({});

    // The old queue accepts emails without a key until no server submits to it any more.
    await queue.submit(1, { send_at: inDays(1) });
    const { code, stdout } = await runCli(source, "queue", "move", file);
    expect([code, stdout]).toEqual([
      0,
      expect.stringContaining("\n1 scheduled email moved\nThe old queue is empty"),
    ]);
    await one.close();
  },
);

/** Leaves scheduled emails as a command does that is killed after each step of their move. */
async function interrupt(from: Admin, to: Admin, [withdrawn, adopted, deleted]: readonly string[]) {
  const history = withdrawnHistory("");
  const ids = [withdrawn!, adopted!, deleted!];
  expect(await from.withdraw(ids.map((id) => ({ id, seenHistory: "", history })))).toHaveLength(3);
  await adopt(to, from, [adopted!, deleted!]);
  expect(await from.delete([deleted!], [history], true)).toEqual(["deleted"]);
}

test.each(pairs)(
  "queue move: %s, scheduled emails are neither lost nor in both queues, wherever a command was killed",
  async (_, from, to) => {
    const one = await prepare(from, to);
    const { queue, admin, move } = one;
    const ids = await queue.submit(4, { send_at: inDays(3) });
    const before = await Promise.all(ids.map((id) => queue.admin.show(id)));
    await move(0, "--close");
    await interrupt(queue.admin, admin, ids);
    const [died = ""] = await queue.dead(1);
    expect(await move()).toMatchObject({
      dead_letters_moved: 1,
      // The third had left the old queue.
      scheduled_moved: 3,
      failed: [],
      left: { scheduled: 0, dead: 0 },
    });
    expect(await Promise.all(ids.map((id) => admin.show(id)))).toEqual(before);
    for (const id of ids) expect(await stateIn(queue.admin, id)).toBe("deleted");
    expect(await stateIn(admin, died)).toBe("dead");
    await one.close();
  },
);

test.each(pairs)(
  "queue move: %s, --cancel schedules withdrawn emails again, each in the queue that has it alone",
  async (_, from, to) => {
    const one = await prepare(from, to);
    const { source, queue, admin, move } = one;
    const ids = await queue.submit(4, { send_at: inDays(3) });
    await move(0, "--close");
    await interrupt(queue.admin, admin, ids);
    const shown = await jsonOfCli(source, ["queue", "show", ids[0]!]);
    expect(shown).toMatchObject({
      state: "dead",
      reason: expect.stringContaining("on its way to another queue"),
    });
    expect(await move(0, "--cancel")).toMatchObject({ step: "canceled" });
    const states = (of: Admin) => Promise.all(ids.map((id) => stateIn(of, id)));
    expect(await states(queue.admin)).toEqual(["scheduled", "deleted", "deleted", "scheduled"]);
    expect(await states(admin)).toEqual([undefined, "scheduled", "scheduled", undefined]);
    await one.close();
  },
);

test.each(pairs)(
  "queue move: %s, a scheduled email that is deleted in the old queue after a command was killed is sent by none",
  async (_, from, to) => {
    for (const options of [[], ["--cancel"]]) {
      const one = await prepare(from, to);
      const { queue, admin, move } = one;
      const ids = await queue.submit(3, { send_at: inDays(3) });
      await move(0, "--close");
      await interrupt(queue.admin, admin, ids);
      expect(await queue.admin.delete([ids[1]!])).toEqual(["deleted"]);
      await move(0, ...options);
      const states = (of: Admin) => Promise.all(ids.slice(1).map((id) => stateIn(of, id)));
      expect(await states(queue.admin)).toEqual(["deleted", "deleted"]);
      expect(await states(admin)).toEqual(["deleted", "scheduled"]);
      await one.close();
    }
  },
);

test.each(pairs)(
  "queue move: %s, --cancel schedules no email that was deleted in the new queue after a command was killed",
  async (_, from, to) => {
    const one = await prepare(from, to);
    const { target, queue, admin, move } = one;
    const ids = await queue.submit(3, { send_at: inDays(3) });
    await move(0, "--close");
    await interrupt(queue.admin, admin, ids);
    await runCli(target, "queue", "delete", ids[1]!);
    await move(0, "--cancel");
    const states = (of: Admin) => Promise.all(ids.map((id) => stateIn(of, id)));
    expect(await states(queue.admin)).toEqual(["scheduled", "deleted", "deleted"]);
    expect(await states(admin)).toEqual([undefined, "deleted", "scheduled"]);
    await one.close();
  },
);

test("queue move: --cancel beside another command leaves a scheduled email to one queue, which can move it later", async () => {
  const one = await prepare(stack.settings, stack.settings);
  const { source, target, queue, admin, move } = one;
  const [id = ""] = await queue.submit(1, { send_at: inDays(3) });
  await move(0, "--close");
  await queue.admin.withdraw([{ id, seenHistory: "", history: withdrawnHistory("") }]);
  const proxy = await startProxy(stack.redis.port);
  // The answer of the new queue that it does not have the email.
  Object.assign(proxy, { replies: "hold", onlyWith: "*1\r\n$0\r\n" });
  const file = fileOf({ ...target, REDIS_URL: `redis://127.0.0.1:${proxy.port}` });
  const command = startCommand(cliCommand("queue", "move", file, "--cancel"), { env: source });
  await eventually("it has asked the new queue", () => proxy.heldReplies > 0);
  await adopt(admin, queue.admin, [id]);
  proxy.replies = "pass";
  proxy.release();
  expect(await command.exited).toBe(0);
  expect([await stateIn(queue.admin, id), await stateIn(admin, id)]).toEqual(["scheduled", "deleted"]);
  await move(0, "--close");
  expect(await move()).toMatchObject({ scheduled_moved: 1, failed: [] });
  expect([await stateIn(queue.admin, id), await stateIn(admin, id)]).toEqual(["deleted", "scheduled"]);
  proxy.stop();
  await one.close();
});

test.each(pairs)(
  "queue move: %s, a dead letter whose time is ahead is not sent before, however it is retried",
  async (_, from, to) => {
    const one = await prepare(from, to);
    const { source, target, queue, admin, move } = one;
    // It died under a clock that was ahead.
    const ids = await queue.submit(2, { send_at: inDays(5) });
    const history = encodeMemory(asDead(noHistory, "401"));
    await queue.admin.setMoving(true);
    await queue.admin.withdraw(ids.map((id) => ({ id, seenHistory: "", history })));
    await queue.admin.setMoving(false);

    await jsonOfCli(source, ["queue", "retry", ids[0]!]);
    expect(await stateIn(queue.admin, ids[0]!)).toBe("scheduled");
    await move(0, "--close");
    expect(await move()).toMatchObject({ dead_letters_moved: 1, scheduled_moved: 1 });
    // The move schedules only what it has withdrawn.
    expect(await stateIn(admin, ids[1]!)).toBe("dead");
    await jsonOfCli(target, ["queue", "retry", "--all"]);
    expect(await Promise.all(ids.map((id) => stateIn(admin, id)))).toEqual(["scheduled", "scheduled"]);
    await one.close();
  },
);

test("queue move: a scheduled email that is deleted in the old queue meanwhile is sent by none", async () => {
  const one = await prepare(stack.settings, stack.settings);
  const { source, queue, admin, file, move } = one;
  const [id = ""] = await queue.submit(1, { send_at: inDays(3) });
  await move(0, "--close");
  const proxy = await startProxy(stack.redis.port);
  // The answer to its withdrawal; others contain more than the id.
  Object.assign(proxy, { replies: "hold", onlyWith: `$36\r\n${id}` });
  const command = startCommand(cliCommand("queue", "move", file, "--json"), {
    env: { ...source, REDIS_URL: `redis://127.0.0.1:${proxy.port}` },
  });
  await eventually("it is withdrawn", () => proxy.heldReplies > 0);
  expect(await stateIn(queue.admin, id)).toBe("dead");
  await queue.admin.delete([id]);
  proxy.replies = "pass";
  proxy.release();
  expect(await command.exited).toBe(0);
  expect(JSON.parse(command.stdout())).toMatchObject({ scheduled_moved: 0, left: { scheduled: 0, dead: 0 } });
  expect([await stateIn(queue.admin, id), await stateIn(admin, id)]).toEqual(["deleted", "deleted"]);
  proxy.stop();
  await one.close();
});

test.each(pairs)("queue move: %s, the key of a scheduled email keeps its long life", async (_, from, to) => {
  const one = await prepare(from, to);
  const { queue, admin, move } = one;
  const lifeMs = 31 * 24 * 3_600_000;
  const use = { id: Bun.randomUUIDv7(), fingerprint: "f", token: "", lifeMs };
  await queue.admin.rememberKeys([{ key: "k", uses: [use] }]);
  expect(await move(0, "--close")).toMatchObject({ step: "closed", keys: { copied: 1, added: 1 } });
  const { keys } = await admin.listKeys(10);
  expect(keys).toMatchObject([{ key: "k", uses: [{ id: use.id }] }]);
  expect(keys[0]!.uses[0]!.lifeMs).toBeWithin(lifeMs - 3_600_000, lifeMs + 1);
  await one.close();
});

test("queue move: moves back what it has moved", async () => {
  const one = await prepare(stack.settings, stack.embedded);
  const { source, target, queue, admin, move } = one;
  const [died = ""] = await queue.dead(1);
  await move(0, "--close");
  expect(await move()).toMatchObject({ dead_letters_moved: 1 });
  await move(0, "--cancel");
  const back = (...options: string[]) => jsonOfCli(target, ["queue", "move", fileOf(source), ...options]);
  await back("--close");
  expect(await back()).toMatchObject({ dead_letters_moved: 1, failed: [] });
  expect([await stateIn(queue.admin, died), await stateIn(admin, died)]).toEqual(["dead", "deleted"]);
  await one.close();
});

test("queue move: --cancel opens the old queue again, and leaves no letter to both queues", async () => {
  const one = await prepare(stack.settings, stack.settings);
  const { source, queue, admin, move } = one;
  const dead = await queue.dead(3);
  await move(0, "--close");
  await adopt(admin, queue.admin, dead.slice(0, 1));
  expect(await move(0, "--cancel")).toMatchObject({ step: "canceled" });
  expect((await queue.admin.stats()).moving).toBe(false);
  expect((await jsonOfCli(source, ["queue", "retry", "--all"])).retried.toSorted()).toEqual(
    dead.slice(1).toSorted(),
  );
  expect(await stateIn(admin, dead[0]!)).toBe("dead");
  await one.close();
});

test.each([
  ["dead", "1"],
  ["dead", "4"],
  ["scheduled", "1"],
  ["scheduled", "4"],
] as const)(
  "queue move: an email that is %s stays in the new queue, even if the answer to its deletion in the old one, of %s partitions, is lost",
  async (state, REDIS_PARTITIONS) => {
    const one = await prepare(() => stack.settings({ REDIS_PARTITIONS }), stack.settings);
    const { source, queue, admin, file, move } = one;
    const [id = ""] = await (state === "dead" ? queue.dead(1) : queue.submit(1, { send_at: inDays(3) }));
    await move(0, "--close");
    const proxy = await startProxy(stack.redis.port);
    proxy.onlyWith = "$7\r\ndeleted";
    proxy.replies = "cut";
    const command = startCommand(cliCommand("queue", "move", file, "--json"), {
      env: { ...source, REDIS_URL: `redis://127.0.0.1:${proxy.port}` },
    });
    await eventually("the answer to the deletion is lost", () => proxy.lost > 0);
    expect(await stateIn(queue.admin, id)).toBe("deleted");
    proxy.replies = "pass";
    expect(await command.exited).toBe(0);
    expect(JSON.parse(command.stdout())).toMatchObject({ left: { dead: 0, scheduled: 0 } });
    expect(await stateIn(admin, id)).toBe(state);
    proxy.stop();
    await one.close();
  },
);

test("queue move: waits for the old workers, and a signal ends the wait with a report", async () => {
  const one = await prepare(stack.settings, stack.settings);
  const { source, queue, file, move } = one;
  await queue.sending(1);
  await move(0, "--close");
  const command = startCommand(cliCommand("queue", "move", file, "--json"), { env: source });
  const [died = ""] = await queue.dead(1);
  await eventually("it moves a letter that died meanwhile", async () => {
    return (await stateIn(queue.admin, died)) === "deleted";
  });
  command.signal("SIGINT");
  expect(await command.exited).toBe(1);
  expect(JSON.parse(command.stdout())).toMatchObject({
    step: "emptied",
    dead_letters_moved: 1,
    left: { sending: 1, dead: 0 },
    interrupted: true,
  });
  await one.close();
});

test("queue move: an interruption after the close says that the old queue is closed, and a repetition completes it", async () => {
  const one = await prepare(stack.settings, stack.settings);
  const { source, target, queue, admin, move } = one;
  const use = { id: Bun.randomUUIDv7(), fingerprint: "f", token: "", lifeMs: 24 * 3_600_000 };
  await queue.admin.rememberKeys([{ key: "k", uses: [use] }]);
  const [from, to] = [await startProxy(stack.redis.port), await startProxy(stack.redis.port)];
  // Answers of the new queue to keys are held until the one of the old queue to the close is.
  Object.assign(to, { replies: "hold", onlyWith: "*2\r\n:" });
  const file = fileOf({ ...target, REDIS_URL: `redis://127.0.0.1:${to.port}` });
  const command = startCommand(cliCommand("queue", "move", file, "--close"), {
    env: { ...source, REDIS_URL: `redis://127.0.0.1:${from.port}` },
  });
  await eventually("keys are copied", async () => (await admin.listKeys(1)).keys.length > 0);
  Object.assign(from, { replies: "hold", onlyWith: "+OK" });
  to.replies = "pass";
  to.release();
  await eventually("it is closed", async () => (await queue.admin.stats()).moving);
  await queue.admin.rememberKeys([{ key: "used-meanwhile", uses: [use] }]);
  command.signal("SIGINT");
  from.replies = "pass";
  from.release();
  expect(await command.exited).toBe(1);
  expect(command.stderr()).toContain(
    "closed to new idempotency keys, but not all are copied: run this again",
  );
  expect(await move(0, "--close")).toMatchObject({ step: "closed", keys: { copied: 2, added: 1 } });
  from.stop();
  to.stop();
  await one.close();
});

test("queue move: asks again while a partition does not answer", async () => {
  const answers = [{ unreached: [{ partition: 2, reason: "not connected" }] }, { unreached: [] }];
  const admin = { stats: async () => answers.shift() } as unknown as Admin;
  const read = readConfig({}, "server");
  if (!read.ok) throw new Error(read.message);
  const asked = await ask({ admin, config: read.config }, (one) => one.stats() as Promise<object>);
  expect(asked).toEqual({ unreached: [] });
});

test("queue move: refuses a target that is the same queue, is being moved, is no queue, or has no settings", async () => {
  const { source, queue, admin, file, target, close } = await prepare(stack.settings, stack.settings);
  const refusal = async (to: string, ...options: string[]) => {
    const { code, stdout, stderr } = await runCli(source, "queue", "move", to, ...options);
    expect(stdout).toBe("");
    return [code, stderr.trim()] as const;
  };
  const here = `Redis at 127.0.0.1:${stack.redis.port}, keys under ${source["REDIS_PREFIX"]}`;
  const same = fileOf(source);
  expect(await refusal(same, "--copy")).toEqual([1, `${same} names the same queue: ${here}`]);
  const alias = fileOf({ ...source, REDIS_URL: `redis://localhost:${stack.redis.port}` });
  expect((await refusal(alias, "--close"))[1]).toStartWith("Both settings lead to the same queue");
  expect((await queue.admin.stats()).moving).toBe(false);
  await admin.setMoving(true);
  expect((await refusal(file, "--copy"))[1]).toEndWith("is being moved itself, or is the same queue");
  await admin.setMoving(false);
  const none = await refusal(fileOf({ ...target, REDIS_PREFIX: "nowhere" }));
  expect(none[1]).toStartWith("There is no queue under prefix nowhere");
  expect(await refusal(`${file}.missing`)).toEqual([2, `${file}.missing cannot be read (ENOENT)`]);
  const invalid = fileOf({ REDIS_URL: "redis://:secret/word@host" });
  expect((await refusal(invalid))[0]).toBe(2);
  expect((await refusal(invalid))[1]).toStartWith(`In ${invalid}: Cannot start: REDIS_URL`);
  expect((await refusal(invalid))[1]).not.toContain("secret");
  expect((await runCli(source, "queue", "move")).code).toBe(2);
  expect(await refusal(file, "--copy", "--close")).toEqual([
    2,
    "Use one of --copy, --close, --cancel and --no-wait\nTry: reliable-email queue move --help",
  ]);
  await close();
});

test("queue move: refuses a target that is not durable, before the old queue is closed", async () => {
  const one = await prepare(stack.settings, stack.settings);
  const { queue, target } = one;
  const file = fileOf({ ...target, REDIS_MIN_REPLICAS: "1" });
  const { code, stderr } = await runCli(one.source, "queue", "move", file, "--close");
  expect([code, stderr]).toEqual([1, expect.stringContaining("cannot be relied on: ")]);
  expect((await queue.admin.stats()).moving).toBe(false);
  await one.close();
});
