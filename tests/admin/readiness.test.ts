import { describe, expect, test } from "bun:test";
import {
  serverReadiness,
  type ServerStatus,
  WorkerReadiness,
  type WorkerStatus,
} from "../../lib/admin/readiness.ts";
import { type Breaker, closedBreaker } from "../../lib/policy/breaker.ts";
import type { QueueStats } from "../../lib/queue/contract.ts";
import { statsOf } from "./fixtures.ts";

const mib = 1024 * 1024;
const hourMs = 3_600_000;

const server = (over: Partial<ServerStatus> = {}) =>
  serverReadiness({ stopping: false, health: { ok: true }, stats: statsOf(), overload: undefined, ...over });

const stateOf = (name: string, breaker: Breaker, weight = 1) => ({ provider: { name }, weight, breaker });

const workerStatus = (over: Partial<WorkerStatus> = {}): WorkerStatus => ({
  stopping: false,
  started: true,
  health: { ok: true },
  stats: statsOf(),
  states: [
    stateOf("resend", closedBreaker),
    stateOf("postmark", closedBreaker),
    // With weight 0, it does not matter.
    stateOf("sandbox", open(9000), 0),
  ],
  nowMs: 1000,
  ...over,
});

const createWorkerReadiness = () => new WorkerReadiness({ doubtMs: 23 * hourMs, leaseMs: 60_000 });
const worker = (over?: Partial<WorkerStatus>) => createWorkerReadiness().judge(workerStatus(over));

const open = (
  untilMs: number,
  cause: "failed" | "unanswered" | "account" = "failed",
  isDown = cause !== "unanswered",
): Breaker => ({ kind: "open", generation: 1, untilMs, opened: 1, cause, isDown });
const halfOpen: Breaker = {
  kind: "halfOpen",
  generation: 1,
  opened: 1,
  cause: "failed",
  isDown: true,
  probing: false,
};
const broken = { ok: false, reason: "appendfsync is no" } as const;

describe("readiness of a server", () => {
  test("it is ready when the store is healthy, answers and has room", () => {
    expect(server()).toEqual({ reasons: [], paused: false });
    expect(server({ stats: statsOf({ bytesUsed: mib, bytesMax: 2 * mib }) }).reasons).toEqual([]);
  });

  test("a warning of the store is reported and does not matter", () => {
    const health = { ok: true, warning: "1 replica is connected" } as const;
    const warnings = ["store: 1 replica is connected"];
    expect(server({ health })).toEqual({ reasons: [], warnings, paused: false });
    expect(worker({ health })).toMatchObject({ reasons: [], warnings });
  });

  test("a pause is reported and does not matter", () => {
    expect(server({ stats: statsOf({ paused: true }) })).toEqual({ reasons: [], paused: true });
  });

  test.each([
    [{ health: broken }, ["store: appendfsync is no"]],
    [{ health: broken, stats: undefined }, ["store: appendfsync is no"]],
    [{ stats: undefined }, ["store: no answer within 2 s"]],
    [
      { stats: statsOf({ bytesUsed: mib + 1, bytesMax: 2 * mib }) },
      ["store: less than 1 MiB is left of what it may use"],
    ],
    [{ overload: "too many bytes under way" }, ["overload: too many bytes under way"]],
    [{ stopping: true }, ["stopping: no new connection is accepted"]],
    [
      { stopping: true, health: broken, overload: "x" },
      ["stopping: no new connection is accepted", "store: appendfsync is no", "overload: x"],
    ],
  ] satisfies [Partial<ServerStatus>, string[]][])("%j", (signs, reasons) => {
    expect(server(signs).reasons).toEqual(reasons);
  });
});

describe("readiness of a worker", () => {
  test("it is ready when the store is healthy and answers, and a provider works", () => {
    const both = { resend: "works", postmark: "works" } as const;
    expect(worker()).toEqual({ reasons: [], paused: false, providers: both });
    const states = [stateOf("resend", closedBreaker), stateOf("postmark", open(9000))];
    expect(worker({ states, stats: statsOf({ states: { waiting: 1 } }) }).reasons).toEqual([]);
  });

  test("a paused worker is ready and reports the pause", () => {
    const stats = statsOf({ paused: true, oldestDoubtSinceMs: 0, states: { "in-doubt": 1 } });
    expect(worker({ stats })).toMatchObject({ reasons: [], paused: true });
  });

  test.each([
    [{ health: broken }, ["store: appendfsync is no"]],
    [{ stats: undefined }, ["store: no answer within 2 s"]],
    [{ started: false }, ["starting: the store has not been reached yet"]],
    [{ started: false, health: broken }, ["store: appendfsync is no"]],
    [{ stopping: true }, ["stopping: nothing new is claimed"]],
  ] satisfies [Partial<WorkerStatus>, string[]][])("%j", (signs, reasons) => {
    expect(worker(signs).reasons).toEqual(reasons);
  });

  test("each provider is reported, and one that works is enough", () => {
    const of = (breaker: Breaker) => {
      const states = [stateOf("resend", breaker), stateOf("postmark", closedBreaker)];
      return worker({ states, stats: statsOf({ states: { waiting: 1 } }) });
    };
    for (const [breaker, resend] of [
      [closedBreaker, "works"],
      [open(9000), "does not work"],
      [open(500), "does not work"],
      [halfOpen, "does not work"],
      [open(9000, "account"), "refuses our account"],
      // One failure without an answer may be an email's fault.
      [open(9000, "unanswered"), "works"],
      [open(9000, "unanswered", true), "does not work"],
      [{ ...halfOpen, cause: "unanswered", isDown: false }, "works"],
    ] as const) {
      expect(of(breaker)).toEqual({ reasons: [], paused: false, providers: { resend, postmark: "works" } });
    }
  });

  test("full memory is no reason: deliveries free memory", () => {
    expect(worker({ stats: statsOf({ bytesUsed: 2, bytesMax: 1 }) }).reasons).toEqual([]);
  });

  test("with every breaker open it is not ready, with a reason for each", () => {
    const states = [stateOf("resend", open(9000, "account")), stateOf("postmark", open(9000))];
    expect(worker({ states }).reasons).toEqual([
      "providers: resend refuses our account, postmark does not work",
    ]);
  });

  test.each([open(500), halfOpen])(
    "a provider whose pause is over counts as not working (%j) while an email is left",
    (breaker) => {
      const states = [stateOf("resend", breaker)];
      for (const state of ["waiting", "retrying", "sending", "in-doubt"] as const) {
        const stats = statsOf({ states: { [state]: 1 } });
        expect(worker({ states, stats }).reasons).toEqual(["providers: resend does not work"]);
      }
      expect(worker({ states, stats: statsOf({ states: { dead: 1, sent: 1 } }) }).reasons).toEqual([]);
    },
  );

  test("an overdue end of doubt is a reason, once there was time for it", () => {
    const since = (ageMs: number) => statsOf({ oldestDoubtSinceMs: statsOf().nowMs - ageMs });
    const judgedTwice = (stats: QueueStats, passedMs: number) => {
      const readiness = createWorkerReadiness();
      // On the first check, the store's clock may have stepped just now, unnoticed.
      expect(readiness.judge(workerStatus({ stats })).reasons).toEqual([]);
      return readiness.judge(workerStatus({ stats, nowMs: 1000 + passedMs })).reasons;
    };
    expect(judgedTwice(since(23 * hourMs + 660_000), hourMs)).toEqual([]);
    expect(judgedTwice(since(24 * hourMs), 9_999)).toEqual([]);
    expect(judgedTwice(since(24 * hourMs), 10_000)).toEqual([
      "doubt: a batch has been in doubt for 24.0 h, which should end after 23.0 h",
    ]);
    // After a step of the clock, ages mean nothing.
    const clockStep = { atMs: statsOf().nowMs, byMs: 24 * hourMs };
    expect(judgedTwice({ ...since(24 * hourMs), clockStep }, hourMs)).toEqual([]);
  });
});
