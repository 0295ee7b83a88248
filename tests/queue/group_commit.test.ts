import { afterEach, beforeEach, describe, expect, jest, test } from "bun:test";
import {
  type Committed,
  type CommitResult,
  GroupCommit,
  type CommitReadiness,
} from "../../lib/queue/group_commit.ts";
import type { Submission } from "../../lib/queue/contract.ts";
import { silent } from "../support/log.ts";

// All of this depends on how long writes take. With fake timers, a busy machine makes no write longer.
beforeEach(() => void jest.useFakeTimers());
afterEach(() => void jest.useRealTimers());

/** Lets everything happen that takes no time: a write ends, and the next one begins in its own turn. */
async function turn(): Promise<void> {
  for (let turns = 0; turns < 3; turns++) await new Promise(setImmediate);
}

/** Advances from timer to timer until the result is there. */
async function until<T>(result: Promise<T>): Promise<T> {
  let isDone = false;
  void result.then(() => (isDone = true));
  for (;;) {
    await turn();
    if (isDone) return result;
    jest.advanceTimersToNextTimer();
  }
}

async function sleep(ms: number): Promise<void> {
  const endMs = performance.now() + ms;
  while (performance.now() < endMs) {
    await turn();
    jest.advanceTimersByTime(1);
  }
  await turn();
}

const timeoutMs = 4000;
/** Writes after which the pace of a slow store is known. */
const writesToLearn = 6;

interface Store {
  readonly commits: GroupCommit;
  /** Ids in the order of storage. */
  readonly stored: string[];
  readonly groups: number[];
  writeMs: number;
  outage: boolean;
  /** Another process is in the way. */
  busy: boolean;
  /** It refuses each write before it has done anything. */
  refusing: boolean;
  /** Another store takes what this one hands over; the ids that it has got. */
  readonly elsewhere: string[];
  hasOther: boolean;
  readiness: CommitReadiness;
}

/** A store that takes ten emails or 1000 characters per write. */
function open(): Store {
  const store = {
    stored: [] as string[],
    groups: [] as number[],
    writeMs: 1,
    outage: false,
    busy: false,
    refusing: false,
    elsewhere: [] as string[],
    hasOther: false,
    readiness: { kind: "ready" } as CommitReadiness,
  };
  async function commit(group: readonly Submission[]): Promise<Committed> {
    await Bun.sleep(store.writeMs);
    if (store.busy) return { kind: "again", reason: undefined };
    if (store.outage) return { kind: "again", reason: "it is down" };
    if (store.refusing) return { kind: "again", reason: "it is moving", isUntouched: true };
    store.groups.push(group.length);
    store.stored.push(...group.map(({ id }) => id));
    return { kind: "done", results: group.map(({ id }) => ({ kind: "stored", id, repeated: false })) };
  }
  const commits = new GroupCommit({
    emailsMax: 10,
    charsMax: 1000,
    againMs: 5,
    readiness: () => store.readiness,
    handOver({ id }) {
      if (!store.hasOther) return undefined;
      store.elsewhere.push(id);
      return Promise.resolve({ kind: "stored", id: `other-${id}`, repeated: false });
    },
    commit,
    log: silent,
  });
  return Object.assign(store, { commits });
}

let ids = 0;

function submit({ commits }: Store, count: number, text = "x"): Promise<CommitResult>[] {
  const deadlineMs = performance.now() + timeoutMs;
  return Array.from({ length: count }, () => commits.submit({ id: `${ids++}`, text }, deadlineMs));
}

/** The kinds of all results. */
const kinds = async (results: Promise<CommitResult>[]) =>
  (await until(Promise.all(results))).map(({ kind }) => kind);
const count = (all: string[], kind: string) => all.filter((one) => one === kind).length;

/** Submits this many together, repeatedly, until none of them is refused. */
async function untilStored(store: Store, emails: number): Promise<void> {
  while (count(await kinds(submit(store, emails)), "stored") < emails);
}

describe("group commit", () => {
  test("submissions of one turn are one write, in order", async () => {
    const store = open();
    expect(new Set(await kinds(submit(store, 25)))).toEqual(new Set(["stored"]));
    expect(store.groups).toEqual([10, 10, 5]);
    expect(store.stored).toEqual(store.stored.toSorted((a, b) => Number(a) - Number(b)));
  });

  test("a fast store refuses nobody", async () => {
    const store = open();
    for (let i = 0; i < 5; i++) expect(count(await kinds(submit(store, 100)), "stored")).toBe(100);
  });

  test.each([
    ["many emails", "x"],
    ["large emails", "x".repeat(500)],
  ])(
    "a slow store gets as many %s as it can take in half of their time, and the others are refused immediately",
    async (_, text) => {
      const store = open();
      store.writeMs = 200;
      for (let i = 0; i < writesToLearn; i++) await kinds(submit(store, 1));
      const results = submit(store, 400, text);
      let refused = 0;
      for (const result of results) void result.then(({ kind }) => (refused += kind === "busy" ? 1 : 0));
      // No time has passed.
      await turn();
      expect(refused).toBeGreaterThan(0);
      const all = await kinds(results);
      expect(count(all, "busy")).toBe(refused);
      // Ten emails, or two large ones, per write: at most ten writes fit into half of the time.
      const stored = count(all, "stored");
      expect(stored).toBe(400 - refused);
      expect(stored).toBeGreaterThan(0);
      expect(stored).toBeLessThanOrEqual(text.length > 1 ? 20 : 100);
      // Nothing was stored whose sender got another answer.
      expect(store.stored).toHaveLength(stored + writesToLearn);
    },
  );

  test("small emails wait for at most one large write, and large ones for one group of small ones", async () => {
    const store = open();
    const large = submit(store, 5, "x".repeat(900));
    const small = submit(store, 25);
    await kinds([...large, ...small]);
    expect(store.groups).toEqual([1, 10, 1, 10, 1, 5, 1, 1]);
  });

  test("a write that is slow because it is large does not count as a slow store", async () => {
    const store = open();
    store.writeMs = 1500;
    expect(await kinds(submit(store, 1, "x".repeat(20_000)))).toEqual(["stored"]);
    store.writeMs = 1;
    expect(count(await kinds(submit(store, 200)), "stored")).toBe(200);
  });

  test("a store that is fast again refuses nobody", async () => {
    const store = open();
    store.writeMs = 300;
    await kinds(submit(store, 1));
    store.writeMs = 1;
    await untilStored(store, 100);
  });

  test("a store slower than every deadline still gets one write after another", async () => {
    const store = open();
    store.writeMs = timeoutMs / 2 + 200;
    for (let i = 0; i < 4; i++) expect(await kinds(submit(store, 1))).toEqual(["stored"]);
    store.writeMs = 1;
    await untilStored(store, 50);
  });

  test("one write beyond every deadline does not block later submissions", async () => {
    const store = open();
    const briefly = () => store.commits.submit({ id: `${ids++}`, text: "x" }, performance.now() + 100);
    store.writeMs = 1000;
    expect(await kinds([briefly()])).toEqual(["failed"]);
    store.writeMs = 1;
    while ((await kinds([briefly()]))[0] !== "stored");
  });

  test("a burst after a slow write and a quiet period is not refused", async () => {
    const store = open();
    store.writeMs = 3000;
    await kinds(submit(store, 1));
    store.writeMs = 1;
    // Longer than a pace counts without a write.
    await sleep(1100);
    expect(count(await kinds(submit(store, 50)), "stored")).toBe(50);
  });

  test("a period in which nothing can be written does not count towards the pace", async () => {
    const store = open();
    await kinds(submit(store, 1));
    store.busy = true;
    const first = submit(store, 1);
    await sleep(50);
    store.readiness = { kind: "refused", reason: "it is full" };
    store.commits.flush();
    expect(await kinds(first)).toEqual(["failed"]);
    await sleep(3000);
    store.busy = false;
    store.readiness = { kind: "ready" };
    await kinds(submit(store, 1));
    for (let i = 0; i < 3; i++) expect(count(await kinds(submit(store, 50)), "stored")).toBe(50);
  });

  test("a store that becomes refused during a write is still known to be slow", async () => {
    const store = open();
    store.writeMs = 300;
    for (let i = 0; i < writesToLearn; i++) await kinds(submit(store, 1));
    const [first] = submit(store, 1);
    await turn();
    store.readiness = { kind: "refused", reason: "it is full" };
    store.commits.flush();
    store.readiness = { kind: "ready" };
    expect(await kinds([first!])).toEqual(["stored"]);
    expect(count(await kinds(submit(store, 400)), "busy")).toBeGreaterThan(0);
  });

  test("an outage is waited for, and causes no refusal then or later", async () => {
    const store = open();
    await kinds(submit(store, 1));
    store.outage = true;
    const first = submit(store, 50);
    await sleep(timeoutMs / 4);
    const second = submit(store, 50);
    await sleep(timeoutMs / 4);
    store.outage = false;
    for (const results of [first, second, submit(store, 50)]) {
      expect(count(await kinds(results), "stored")).toBe(50);
    }
  });

  test("a store that is not ready yet is waited for", async () => {
    const store = open();
    store.readiness = { kind: "pending", reason: "it is loading" };
    const results = submit(store, 300);
    // Two turns: they would have been written in the first.
    for (let turns = 0; turns < 2; turns++) await turn();
    expect(store.groups).toEqual([]);
    store.readiness = { kind: "ready" };
    store.commits.flush();
    expect(count(await kinds(results), "stored")).toBe(300);
  });

  test("nothing is written whose sender would already have got a failure", async () => {
    const store = open();
    store.writeMs = 300;
    for (let i = 0; i < writesToLearn; i++) await kinds(submit(store, 1));
    // One write is in progress, and the submissions after it have no time for one of their own.
    const [first] = submit(store, 1);
    await turn();
    store.writeMs = 1;
    const late = store.commits.submit({ id: "late", text: "x" }, performance.now() + 200);
    expect(await kinds([late, first!])).toEqual(["busy", "stored"]);
    expect(store.stored).not.toContain("late");
  });

  describe("beside another store", () => {
    test("what waits for a store that is not ready is handed over, as soon as the other can take it", async () => {
      const store = open();
      store.readiness = { kind: "pending", reason: "it is down" };
      const results = submit(store, 30);
      await turn();
      expect(store.elsewhere).toEqual([]);
      store.hasOther = true;
      store.commits.flush();
      expect(count(await kinds(results), "stored")).toBe(30);
      expect(store.elsewhere.length).toBe(30);
      expect(store.stored).toEqual([]);
    });

    test("what was in a write that failed stays, and what waited behind it is handed over", async () => {
      const store = open();
      store.hasOther = true;
      store.outage = true;
      const results = submit(store, 25);
      await sleep(50);
      expect(store.elsewhere.length).toBe(15);
      store.outage = false;
      expect(count(await kinds(results), "stored")).toBe(25);
      expect(store.stored.length).toBe(10);
    });

    test("what was in a write that certainly did nothing is handed over too", async () => {
      const store = open();
      store.hasOther = true;
      store.refusing = true;
      expect(count(await kinds(submit(store, 25)), "stored")).toBe(25);
      expect(store.elsewhere.length).toBe(25);
    });

    test("a store in trouble takes nothing more, and is tried again once nothing waits for it", async () => {
      const store = open();
      const one = { id: "one", text: "x" };
      const takes = () => store.commits.takes(one, performance.now() + timeoutMs);
      expect(takes()).toBe(true);
      store.outage = true;
      const [result] = submit(store, 1);
      await sleep(20);
      expect(takes()).toBe(false);
      store.outage = false;
      expect(await kinds([result!])).toEqual(["stored"]);
      expect(takes()).toBe(true);
      store.readiness = { kind: "pending", reason: "it is down" };
      expect(takes()).toBe(false);
    });

    test("a store whose write hangs takes nothing more", async () => {
      const store = open();
      store.writeMs = 3000;
      const [result] = submit(store, 1);
      await sleep(500);
      expect(store.commits.takes({ id: "one", text: "x" }, performance.now() + timeoutMs)).toBe(false);
      expect(await kinds([result!])).toEqual(["stored"]);
    });
  });
});
