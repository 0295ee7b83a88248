// `queue stats`: how the queue is, in one look.

import { withoutSecrets } from "../../runtime/log.ts";
import type { Admin, ProviderCondition, QueueStats } from "../../queue/contract.ts";
import type { QueueSettings } from "../../queue/open.ts";
import type { Config } from "../../config/config.ts";
import type { SingleCommand } from "../command.ts";
import { readOptions } from "../command.ts";
import { print, printJson } from "../output.ts";
import { type Column, tableOf } from "../table.ts";
import { painter, type Terminal } from "../terminal.ts";
import { ageOf, bytesOf, isoOf, lengthOf, numberOf, visible } from "../format.ts";
import { durabilityOf, locationOf } from "./location.ts";
import { type Reason, type ReasonSample, sampleDead, sampleFailures, sampleMax } from "./failure_reasons.ts";
import { done, withQueue } from "./open_queue.ts";
import { type ListedState, listedStates, meanings } from "./states.ts";

export const statsCommand: SingleCommand = {
  name: "queue stats",
  summary: "how the queue is: counts, ages, providers, store, why emails are dead",
  help: [
    "Usage: reliable-email queue stats [--json]",
    "",
    "Shows how many emails are in each state, how long the oldest is due or in doubt,",
    "whether the queue is paused, whether the store can be relied on, which provider",
    "works and which does not, what came of the attempts by provider since the queue",
    "began, why emails failed last and why they are dead.",
    "",
    `The reasons are those of the newest ${numberOf(sampleMax)} emails.`,
    "",
    "Options:",
    "  --json  one object, with a count under the name of each state",
  ].join("\n"),
  async run(args) {
    const read = readOptions(args, { json: { type: "boolean", default: false } });
    if (!read.ok) return { kind: "wrongUsage", usageError: read.usageError };
    return withQueue(async ({ admin, config, terminal }) => {
      const look: Look = {
        numbers: await admin.stats(),
        failures: await sampleFailures(admin),
        dead: await sampleDead(admin),
        store: await storeOf(admin, config),
      };
      if (read.values.json) printJson(documentOf(look));
      else print(tell(look, config.queue, terminal).join("\n"));
      return done;
    });
  },
};

interface Look {
  readonly numbers: QueueStats;
  readonly store: Store;
  readonly failures: ReasonSample;
  readonly dead: ReasonSample;
}

/** Whether a server would take submissions for it now, and what was found. */
interface Store {
  readonly ok: boolean;
  readonly detail: string;
}

async function storeOf(admin: Admin, { queue, secrets }: Config): Promise<Store> {
  const health = await admin.health();
  return health.ok
    ? { ok: true, detail: durabilityOf(queue) }
    : { ok: false, detail: withoutSecrets(health.reason, secrets) };
}

type Outcomes = Record<string, number>;

/** Counters are named `<what>:<provider>`, or without a provider. */
function outcomesOf(counters: QueueStats["counters"]) {
  const providers: Record<string, Outcomes> = {};
  const others: Outcomes = {};
  for (const [name, count] of Object.entries(counters)) {
    const [what = "", provider] = name.split(":");
    if (provider === undefined) others[what] = count;
    else (providers[provider] ??= {})[what] = count;
  }
  return { providers, others };
}

/** The documented form. What there is not is left out. */
function documentOf({ numbers, store, failures, dead }: Look) {
  const { nowMs, states, counters, oldestDueAtMs, oldestDoubtSinceMs } = numbers;
  const { providers, others } = outcomesOf(counters);
  const told = ({ reasons }: ReasonSample) =>
    reasons.map(({ provider, reason, count }) => ({ provider, reason, emails: count }));
  return {
    at: isoOf(nowMs),
    ...states,
    paused: numbers.paused,
    oldest_due_since: oldestDueAtMs === undefined ? undefined : isoOf(oldestDueAtMs),
    oldest_in_doubt_since: oldestDoubtSinceMs === undefined ? undefined : isoOf(oldestDoubtSinceMs),
    store,
    providers: Object.fromEntries(
      namesOf(providers, numbers).map((name) => [
        name,
        { ...providers[name], ...conditionDocument(numbers.providers[name]) },
      ]),
    ),
    possible_duplicates: others["possible_duplicates"] ?? 0,
    retried_by_operator: others["replayed"] ?? 0,
    clock_stepped_at: numbers.clockStep && isoOf(numbers.clockStep.atMs),
    clock_stepped_by_ms: numbers.clockStep?.byMs,
    restamped: others["restamped"] ?? 0,
    failures: told(failures),
    failures_sampled: failures.size,
    dead_reasons: told(dead),
    dead_sampled: dead.size,
    bytes_used: numbers.bytesUsed,
    bytes_max: numbers.bytesMax,
  };
}

/** In the order of the alphabet. */
function namesOf(providers: Readonly<Record<string, Outcomes>>, numbers: QueueStats): string[] {
  return [...new Set([...Object.keys(providers), ...Object.keys(numbers.providers)])].toSorted();
}

function conditionDocument(condition: ProviderCondition = {}) {
  const { lastAcceptedAtMs, failingSinceMs, lastFailedAtMs, lastFailure } = condition;
  const time = (atMs: number | undefined) => (atMs === undefined ? undefined : isoOf(atMs));
  return {
    last_accepted_at: time(lastAcceptedAtMs),
    failing_since: time(failingSinceMs),
    last_failed_at: time(lastFailedAtMs),
    last_failure: lastFailure,
  };
}

function tell({ numbers, store, failures, dead }: Look, queue: QueueSettings, terminal: Terminal): string[] {
  const paint = painter(terminal);
  const { nowMs, states, counters, oldestDueAtMs, oldestDoubtSinceMs, paused } = numbers;
  const { providers, others } = outcomesOf(counters);
  const since = (atMs: number | undefined) => (atMs === undefined ? "none" : ageOf(atMs, nowMs));
  const field = (name: string, value: string) => `${paint(name.padEnd(16), "dim")} ${value}`;
  const duplicates = others["possible_duplicates"] ?? 0;
  const room = numbers.bytesMax === undefined ? "" : ` of ${bytesOf(numbers.bytesMax)}`;
  return [
    ...tableOf<ListedState>(
      [
        { title: "STATE", text: (state) => state },
        {
          title: "EMAILS",
          text: (state) => numberOf(states[state]),
          align: "right",
          style: (state) => (state === "dead" && states.dead > 0 ? "red" : undefined),
        },
        { title: "", text: (state) => meanings[state], elastic: true },
      ],
      listedStates,
      terminal,
    ),
    "",
    field(
      "Claims",
      paused
        ? paint("paused: nothing is sent until `reliable-email queue resume`", "bold", "yellow")
        : "go on",
    ),
    field("Oldest due", since(oldestDueAtMs)),
    field("Oldest in doubt", since(oldestDoubtSinceMs)),
    field("Duplicates", `${numberOf(duplicates)} possible`),
    ...clockLines(numbers).map((line) => field("Clock", paint(line, "yellow"))),
    field("Queue", `${locationOf(queue)}, ${bytesOf(numbers.bytesUsed)}${room}`),
    field(
      "Store",
      store.ok
        ? visible(store.detail)
        : paint(`cannot be relied on: ${visible(store.detail)}`, "bold", "red"),
    ),
    ...conditionLines(numbers, terminal),
    ...outcomeLines(providers, terminal),
    ...reasonLines("Last failures of those not sent yet", failures, total(states, notSent), terminal),
    ...reasonLines("Why the dead letters are dead", dead, states.dead, terminal),
  ];
}

/** Nothing while the store's clock has not stepped. */
function clockLines({ clockStep, counters, nowMs }: QueueStats): string[] {
  if (clockStep === undefined) return [];
  const { atMs, byMs } = clockStep;
  const restamped = numberOf(counters["restamped"] ?? 0);
  const step = `stepped ${byMs > 0 ? "ahead" : "back"} by ${lengthOf(Math.abs(byMs))}, ${ageOf(atMs, nowMs)}`;
  return [`${step}; ${restamped} impossible times corrected since the queue began`];
}

const notSent = ["waiting", "retrying", "in-doubt"] as const;
const total = (states: QueueStats["states"], among: readonly ListedState[]) =>
  among.reduce((sum, state) => sum + states[state], 0);

function byName<T>(providers: Readonly<Record<string, T>>): [string, T][] {
  return Object.entries(providers).toSorted(([a], [b]) => (a < b ? -1 : 1));
}

function conditionLines({ providers, nowMs }: QueueStats, terminal: Terminal): string[] {
  const rows = byName(providers);
  if (rows.length === 0) return [];
  const columns: Column<(typeof rows)[number]>[] = [
    { title: "PROVIDER", text: ([name]) => name },
    {
      title: "CONDITION",
      text: ([, condition]) => conditionOf(condition, nowMs),
      elastic: true,
      style: ([, { failingSinceMs }]) => (failingSinceMs === undefined ? undefined : "red"),
    },
  ];
  return ["", ...tableOf(columns, rows, terminal)];
}

function conditionOf(condition: ProviderCondition, nowMs: number): string {
  const { lastAcceptedAtMs, failingSinceMs, lastFailedAtMs = nowMs, lastFailure = "" } = condition;
  const accepted = lastAcceptedAtMs === undefined ? "" : `accepted ${ageOf(lastAcceptedAtMs, nowMs)}`;
  if (failingSinceMs === undefined) return accepted;
  const failing = `failing for ${lengthOf(nowMs - failingSinceMs)}, last ${ageOf(lastFailedAtMs, nowMs)}`;
  return `${failing}: ${lastFailure}${accepted && ` (${accepted})`}`;
}

const outcomeNames = ["accepted", "retried", "rejected", "unknown", "handed_over", "dead"] as const;

function outcomeLines(providers: Readonly<Record<string, Outcomes>>, terminal: Terminal): string[] {
  const rows = byName(providers);
  if (rows.length === 0) return [];
  const columns: Column<(typeof rows)[number]>[] = [
    { title: "PROVIDER", text: ([name]) => name },
    ...outcomeNames.map((what): Column<(typeof rows)[number]> => ({
      title: what.replace("_", " ").toUpperCase(),
      text: ([, outcomes]) => numberOf(outcomes[what] ?? 0),
      align: "right",
    })),
  ];
  return ["", ...tableOf(columns, rows, terminal)];
}

function reasonLines(
  title: string,
  { size, reasons }: ReasonSample,
  count: number,
  terminal: Terminal,
): string[] {
  if (reasons.length === 0) return [];
  const of = count > size ? ` (of the newest ${numberOf(size)} of ${numberOf(count)})` : "";
  const columns: Column<Reason>[] = [
    { title: "EMAILS", text: (one) => numberOf(one.count), align: "right" },
    { title: "REASON", text: ({ reason }) => reason, elastic: true },
  ];
  if (reasons.some(({ provider }) => provider !== undefined)) {
    columns.splice(1, 0, { title: "PROVIDER", text: ({ provider = "" }) => provider });
  }
  return ["", painter(terminal)(`${title}${of}`, "bold"), ...tableOf(columns, reasons, terminal)];
}
