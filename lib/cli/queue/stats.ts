// `queue stats`: the condition of the queue at a glance.

import type { ProviderCondition, QueueStats, StoredEmail } from "../../queue/contract.ts";
import { withoutSecrets } from "../../runtime/log.ts";
import { defineCommand } from "../command.ts";
import { documentOf, type DisplayField, type Fields, linesOf, titleOf } from "../fields.ts";
import { formatAge, formatBytes, formatDuration, formatNumber } from "../format.ts";
import { print, printJson } from "../output.ts";
import { type Column, tableOf } from "../table.ts";
import { paint, type Terminal } from "../terminal.ts";
import { listedFields, type ListedState, listedStates, stateMeanings } from "./email_fields.ts";
import { durabilityOf } from "./location.ts";
import { jsonFlag, pageMax, pagesOf, type QueueSession, withQueue } from "./session.ts";

/** Most emails of which the reasons are read: it bounds the work of one look at the queue. */
const sampleMax = 10 * pageMax;
const reasonsMax = 10;

export const statsCommand = defineCommand({
  name: "queue stats",
  summary: "shows counts, ages, providers, the store, and why emails are dead",
  about: `\
Shows how many emails are in each state, how long the oldest has been due or in doubt, whether the queue is paused, whether the store can be relied on, which providers work, the results of each provider since the queue was created, why emails failed last, and why dead letters are dead.

The reasons are those of the newest ${formatNumber(sampleMax)} emails.`,
  options: { json: jsonFlag },
  run: ({ json }) =>
    withQueue(async (session) => {
      const { admin, terminal, unreached } = session;
      const stats = unreached.note(await admin.stats());
      const failures = await sampleReasons(session, ["retrying", "waiting", "in-doubt"]);
      const dead = await sampleReasons(session, ["dead"]);
      const fields = { ...queueFields(stats, session.location), store: await storeField(session) };
      const providers = providerFields(stats);
      if (json) {
        const documents = Object.entries(providers).map(([name, one]) => [name, documentOf(one)]);
        printJson({
          ...stats.states,
          ...documentOf(fields),
          providers: Object.fromEntries(documents),
          failures: failures.reasons,
          failures_sampled: failures.size,
          dead_reasons: dead.reasons,
          dead_sampled: dead.size,
          ...unreached.field,
        });
        return 0;
      }
      const { states, nowMs } = stats;
      const conditions = Object.entries(providers).map(
        ([name, one]) => [name, one["last_failure"]!] as const,
      );
      const notSent = states.waiting + states.retrying + states["in-doubt"];
      const lines = [
        ...tableOf(stateColumns(states), listedStates, terminal),
        "",
        ...linesOf({ ...fields, ...Object.fromEntries(conditions) }, nowMs, terminal),
        ...providerLines(providers, terminal),
        ...reasonLines("Last failures of emails not sent yet", failures, notSent, terminal),
        ...reasonLines("Why the dead letters are dead", dead, states.dead, terminal),
      ];
      print(lines.join("\n"));
      return 0;
    }),
});

async function storeField({ admin, config }: QueueSession): Promise<DisplayField> {
  const health = await admin.health();
  const { ok } = health;
  const detail = ok ? durabilityOf(config.queue) : withoutSecrets(health.reason, config.secrets);
  const text = ok ? detail : `cannot be relied on: ${detail}`;
  return { label: "Store", value: { ok, detail }, text, style: ok ? [] : ["bold", "red"] };
}

const stateColumns = (states: QueueStats["states"]): Column<ListedState>[] => [
  ["STATE", (state) => state],
  ["EMAILS", (state) => states[state], (state) => (state === "dead" && states.dead > 0 ? "red" : undefined)],
  ["", (state) => stateMeanings[state]],
];

function providerLines(providers: Readonly<Record<string, Fields>>, terminal: Terminal): string[] {
  const columns = countNames.map((key): Column<[string, Fields]> => {
    return [titleOf(key), ([, fields]) => fields[key]?.value as number];
  });
  const rows = Object.entries(providers);
  return rows.length === 0
    ? []
    : ["", ...tableOf([["PROVIDER", ([name]) => name], ...columns], rows, terminal)];
}

/** In the order in which people see them. */
function queueFields(stats: QueueStats, location: string): Fields {
  const { nowMs, counters, paused, clockStep, fileBytes, bytesUsed, bytesMax } = stats;
  const { possible_duplicates = 0, replayed = 0, restamped = 0 } = counters;
  const oldest = (label: string, atMs: number | undefined) => {
    return { label, atMs, text: atMs === undefined ? "none" : formatAge(atMs, nowMs) };
  };
  const count = (label: string, value: number, rest: string) => {
    return { label, value, text: `${formatNumber(value)} ${rest}` };
  };
  const max = bytesMax === undefined ? "" : ` of ${formatBytes(bytesMax)}`;
  return {
    at: { atMs: nowMs },
    paused: {
      label: "Claims",
      value: paused,
      text: paused ? "paused: nothing is sent until `reliable-email queue resume`" : "not paused",
      style: paused ? ["bold", "yellow"] : [],
    },
    moving: {
      label: "Move",
      value: stats.moving,
      text: stats.moving ? "the queue is being moved: it accepts no new idempotency keys and no retries" : "",
      style: ["bold", "yellow"],
    },
    oldest_due_since: oldest("Oldest due", stats.oldestDueAtMs),
    oldest_in_doubt_since: oldest("Oldest in doubt", stats.oldestDoubtSinceMs),
    possible_duplicates: count("Duplicates", possible_duplicates, "possible"),
    retried_by_operator: count("Retried", replayed, "by an operator"),
    clock_stepped_at: { label: "Clock", atMs: clockStep?.atMs, text: clockText(stats), style: ["yellow"] },
    clock_stepped_by_ms: { value: clockStep?.byMs },
    restamped: { value: restamped },
    bytes_used: { label: "Queue", value: bytesUsed, text: `${location}, ${formatBytes(bytesUsed)}${max}` },
    bytes_max: { value: bytesMax },
    file_bytes: {
      label: "Attachments",
      value: fileBytes,
      text: fileBytes === 0 ? "" : `${formatBytes(fileBytes)} of emails that are not sent`,
    },
  };
}

function clockText({ clockStep, counters, nowMs }: QueueStats): string {
  if (clockStep === undefined) return "";
  const { atMs, byMs } = clockStep;
  const step = `${byMs > 0 ? "ahead" : "back"} by ${formatDuration(Math.abs(byMs))}, ${formatAge(atMs, nowMs)}`;
  const corrected = formatNumber(counters["restamped"] ?? 0);
  return `stepped ${step}; ${corrected} impossible times corrected since the queue began`;
}

const countNames = [
  "accepted",
  "retried",
  "rejected",
  "unknown",
  "handed_over",
  "dead",
  "doubts_split",
] as const;

/** By name: the results of attempts since the queue began, and how the provider did lately. */
function providerFields({ counters, providers, nowMs }: QueueStats): Readonly<Record<string, Fields>> {
  const counted = Object.keys(counters).flatMap((counter) => counter.split(":")[1] ?? []);
  const names = [...new Set([...counted, ...Object.keys(providers)])].toSorted();
  const entries = names.map((name) => {
    const counts = countNames.map((what) => [what, { value: counters[`${what}:${name}`] ?? 0 }] as const);
    const { lastAcceptedAtMs, failingSinceMs, lastFailedAtMs, lastFailure, rate } = providers[name] ?? {};
    const isFailing = failingSinceMs !== undefined;
    const accepted = lastAcceptedAtMs === undefined ? "" : `accepted ${formatAge(lastAcceptedAtMs, nowMs)}`;
    const failing = `failing for ${formatDuration(nowMs - (failingSinceMs ?? nowMs))}, last ${formatAge(lastFailedAtMs ?? nowMs, nowMs)}: ${lastFailure}`;
    const state = isFailing ? `${failing}${accepted && ` (${accepted})`}` : accepted;
    const condition: Fields = {
      last_accepted_at: { atMs: lastAcceptedAtMs },
      failing_since: { atMs: failingSinceMs },
      last_failed_at: { atMs: lastFailedAtMs },
      last_failure: {
        label: name,
        value: lastFailure,
        text: [state, rateText(rate, nowMs)].filter(Boolean).join("; "),
        style: isFailing ? ["red"] : [],
      },
      requests_per_second: { value: rate?.perSecond },
      requests_per_second_limit: { value: rate?.limitPerSecond },
      requests_paused_until: { atMs: rate?.pausedUntilMs },
    };
    return [name, { ...Object.fromEntries(counts), ...condition }] as const;
  });
  return Object.fromEntries(entries);
}

/** The rate that all workers share. */
function rateText(rate: ProviderCondition["rate"], nowMs: number): string {
  if (rate === undefined) return "";
  const { perSecond, limitPerSecond, pausedUntilMs } = rate;
  if (pausedUntilMs !== undefined) return `no requests for ${formatDuration(pausedUntilMs - nowMs)}`;
  const limit = limitPerSecond === undefined ? "" : `, limit ${limitPerSecond}`;
  return `at most ${Number(perSecond.toFixed(1))} requests/s${limit}`;
}

interface FailureReason {
  /** Undefined for dead letters. */
  readonly provider?: string | undefined;
  readonly reason: string;
  readonly emails: number;
}

interface ReasonSample {
  readonly size: number;
  /** The most frequent first. */
  readonly reasons: readonly FailureReason[];
}

/**
 * Why dead letters are dead, or why the last attempt failed of emails that are not sent yet. Reads the newest emails,
 * since they show what goes wrong now: reasons are stored with the emails and counted nowhere.
 */
async function sampleReasons(session: QueueSession, states: readonly ListedState[]): Promise<ReasonSample> {
  const found = new Map<string, FailureReason>();
  let size = 0;
  for (const state of states) {
    for await (const emails of pagesOf(session, state, Math.ceil(sampleMax / states.length), "newest")) {
      size += emails.length;
      for (const why of emails.flatMap((email) => reasonOf(email) ?? [])) {
        const key = `${why.provider}\n${why.reason}`;
        found.set(key, { ...why, emails: (found.get(key)?.emails ?? 0) + 1 });
      }
    }
  }
  return { size, reasons: [...found.values()].toSorted((a, b) => b.emails - a.emails).slice(0, reasonsMax) };
}

function reasonOf(email: StoredEmail): Omit<FailureReason, "emails"> | undefined {
  const fields = listedFields(email);
  const reason = fields.reason.value;
  if (email.state === "dead") return { reason: reason ?? "no readable reason" };
  const provider = fields.provider.value ?? fields.attempts.value.at(-1)?.provider;
  return provider === undefined || reason === undefined ? undefined : { provider, reason };
}

/** @param count emails of which the sample was taken */
function reasonLines(
  title: string,
  { size, reasons }: ReasonSample,
  count: number,
  terminal: Terminal,
): string[] {
  if (reasons.length === 0) return [];
  const part = count > size ? ` (of the newest ${formatNumber(size)} of ${formatNumber(count)})` : "";
  const columns: Column<FailureReason>[] = [
    ["EMAILS", ({ emails }) => emails],
    ["PROVIDER", ({ provider }) => provider],
    ["REASON", ({ reason }) => reason],
  ];
  // Dead letters have none.
  if (reasons.every(({ provider }) => provider === undefined)) columns.splice(1, 1);
  return ["", paint(terminal, `${title}${part}`, "bold"), ...tableOf(columns, reasons, terminal)];
}
