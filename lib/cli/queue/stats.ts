// `queue stats`: the condition of the queue at a glance.

import type { Config } from "../../config/config.ts";
import type { Admin, ProviderCondition, QueueStats } from "../../queue/contract.ts";
import { withoutSecrets } from "../../runtime/log.ts";
import { defineCommand, done } from "../command.ts";
import { documentOf, type Field, linesOf } from "../fields.ts";
import { formatAge, formatBytes, formatDuration, formatNumber } from "../format.ts";
import { print, printJson } from "../output.ts";
import { type Column, tableOf } from "../table.ts";
import { paint, type Terminal } from "../terminal.ts";
import { listedStates, stateMeanings } from "./email_view.ts";
import {
  type FailureReason,
  type ReasonSample,
  sampleDead,
  sampleFailures,
  sampleMax,
} from "./failure_reasons.ts";
import { durabilityOf } from "./location.ts";
import { jsonFlag, withQueue } from "./session.ts";

export const statsCommand = defineCommand({
  name: "queue stats",
  summary: "shows counts, ages, providers, the store, and why emails are dead",
  about: `\
Shows how many emails are in each state, how long the oldest has been due or in doubt, whether the queue is paused, whether the store can be relied on, which provider works and which does not, what came of the attempts by provider since the queue began, why emails failed last and why they are dead.

The reasons are those of the newest ${formatNumber(sampleMax)} emails.`,
  options: { json: jsonFlag },
  run: ({ json }) =>
    withQueue(async ({ admin, config, location, terminal }) => {
      const report: Report = {
        location,
        stats: await admin.stats(),
        failures: await sampleFailures(admin),
        dead: await sampleDead(admin),
        store: await judgeStore(admin, config),
      };
      if (json) printJson({ ...documentOf(fieldsOf(report)), ...report.stats.states });
      else print(linesFor(report, terminal).join("\n"));
      return done;
    }),
});

interface Report {
  readonly location: string;
  readonly stats: QueueStats;
  readonly failures: ReasonSample;
  readonly dead: ReasonSample;
  /** Whether a server would acknowledge submissions now, and what was found. */
  readonly store: { readonly ok: boolean; readonly detail: string };
}

async function judgeStore(admin: Admin, { queue, secrets }: Config): Promise<Report["store"]> {
  const health = await admin.health();
  const detail = health.ok ? durabilityOf(queue) : withoutSecrets(health.reason, secrets);
  return { ok: health.ok, detail };
}

/** All but the number of emails in each state, which people see in a table. */
function fieldsOf({ location, stats, store, failures, dead }: Report): Field[] {
  const { nowMs, counters, oldestDueAtMs, oldestDoubtSinceMs, paused, clockStep, bytesUsed, bytesMax } =
    stats;
  const { possible_duplicates: duplicates = 0, replayed = 0, restamped = 0 } = counters;
  const age = (atMs: number | undefined) => (atMs === undefined ? "none" : formatAge(atMs, nowMs));
  const room = bytesMax === undefined ? "" : ` of ${formatBytes(bytesMax)}`;
  return [
    { key: "at", atMs: nowMs },
    paused
      ? { key: "paused", label: "Claims", value: true, text: pausedText, style: ["bold", "yellow"] }
      : { key: "paused", label: "Claims", value: false, text: "not paused" },
    { key: "oldest_due_since", label: "Oldest due", atMs: oldestDueAtMs, text: age(oldestDueAtMs) },
    {
      key: "oldest_in_doubt_since",
      label: "Oldest in doubt",
      atMs: oldestDoubtSinceMs,
      text: age(oldestDoubtSinceMs),
    },
    {
      key: "possible_duplicates",
      label: "Duplicates",
      value: duplicates,
      text: `${formatNumber(duplicates)} possible`,
    },
    {
      key: "retried_by_operator",
      label: "Retried",
      value: replayed,
      text: `${formatNumber(replayed)} by an operator`,
    },
    {
      key: "clock_stepped_at",
      label: "Clock",
      atMs: clockStep?.atMs,
      text: clockText(stats),
      style: ["yellow"],
    },
    { key: "clock_stepped_by_ms", value: clockStep?.byMs },
    { key: "restamped", value: restamped },
    {
      key: "bytes_used",
      label: "Queue",
      value: bytesUsed,
      text: `${location}, ${formatBytes(bytesUsed)}${room}`,
    },
    { key: "bytes_max", value: bytesMax },
    store.ok
      ? { key: "store", label: "Store", value: store, text: store.detail }
      : {
          key: "store",
          label: "Store",
          value: store,
          text: `cannot be relied on: ${store.detail}`,
          style: ["bold", "red"],
        },
    { key: "providers", value: Object.fromEntries(providersOf(stats).map(providerEntry)) },
    { key: "failures", value: failures.reasons },
    { key: "failures_sampled", value: failures.size },
    { key: "dead_reasons", value: dead.reasons },
    { key: "dead_sampled", value: dead.size },
  ];
}

const pausedText = "paused: nothing is sent until `reliable-email queue resume`";

function clockText({ clockStep, counters, nowMs }: QueueStats): string {
  if (clockStep === undefined) return "";
  const { atMs, byMs } = clockStep;
  const step = `${byMs > 0 ? "ahead" : "back"} by ${formatDuration(Math.abs(byMs))}, ${formatAge(atMs, nowMs)}`;
  const corrected = formatNumber(counters["restamped"] ?? 0);
  return `stepped ${step}; ${corrected} impossible times corrected since the queue began`;
}

interface ProviderReport {
  readonly name: string;
  /** What came of attempts, since the queue began. */
  readonly counts: Readonly<Record<string, number>>;
  readonly condition: ProviderCondition;
}

/** Sorted by name. The counters of a provider are named `<what>:<provider>`. */
function providersOf({ counters, providers }: QueueStats): ProviderReport[] {
  const counts: Record<string, Record<string, number>> = {};
  for (const [key, count] of Object.entries(counters)) {
    const [what = "", name] = key.split(":");
    if (name !== undefined) (counts[name] ??= {})[what] = count;
  }
  const names = new Set([...Object.keys(counts), ...Object.keys(providers)]);
  return [...names].toSorted().map((name) => {
    return { name, counts: counts[name] ?? {}, condition: providers[name] ?? {} };
  });
}

function providerEntry({ name, counts, condition }: ProviderReport) {
  const times = documentOf([
    { key: "last_accepted_at", atMs: condition.lastAcceptedAtMs },
    { key: "failing_since", atMs: condition.failingSinceMs },
    { key: "last_failed_at", atMs: condition.lastFailedAtMs },
  ]);
  return [name, { ...counts, ...times, last_failure: condition.lastFailure }] as const;
}

function conditionText(condition: ProviderCondition, nowMs: number): string {
  const { lastAcceptedAtMs, failingSinceMs, lastFailedAtMs = nowMs, lastFailure = "" } = condition;
  const accepted = lastAcceptedAtMs === undefined ? "" : `accepted ${formatAge(lastAcceptedAtMs, nowMs)}`;
  if (failingSinceMs === undefined) return accepted;
  const failing = `failing for ${formatDuration(nowMs - failingSinceMs)}, last ${formatAge(lastFailedAtMs, nowMs)}`;
  return `${failing}: ${lastFailure}${accepted && ` (${accepted})`}`;
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

function linesFor(report: Report, terminal: Terminal): string[] {
  const { failures, dead, stats } = report;
  const { states, nowMs } = stats;
  const providers = providersOf(stats);
  const conditions = providers.map(({ name, condition }): Field => {
    const isFailing = condition.failingSinceMs !== undefined;
    const text = conditionText(condition, nowMs);
    return { key: name, label: name, text, style: isFailing ? ["red"] : [] };
  });
  const counts = countNames.map((what): Column<ProviderReport> => ({
    title: what.replace("_", " ").toUpperCase(),
    text: (provider) => formatNumber(provider.counts[what] ?? 0),
    align: "right",
  }));
  const providerColumns = [{ title: "PROVIDER", text: ({ name }: ProviderReport) => name }, ...counts];
  const notSent = states.waiting + states.retrying + states["in-doubt"];
  return [
    ...tableOf(
      [
        { title: "STATE", text: (state) => state },
        {
          title: "EMAILS",
          text: (state) => formatNumber(states[state]),
          align: "right",
          style: (state) => (state === "dead" && states.dead > 0 ? "red" : undefined),
        },
        { title: "", text: (state) => stateMeanings[state], elastic: true },
      ],
      listedStates,
      terminal,
    ),
    "",
    ...linesOf([...fieldsOf(report), ...conditions], nowMs, terminal),
    ...(providers.length === 0 ? [] : ["", ...tableOf(providerColumns, providers, terminal)]),
    ...reasonLines("Last failures of those not sent yet", failures, notSent, terminal),
    ...reasonLines("Why the dead letters are dead", dead, states.dead, terminal),
  ];
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
  const provider: Column<FailureReason> = { title: "PROVIDER", text: (one) => one.provider ?? "" };
  const columns: Column<FailureReason>[] = [
    { title: "EMAILS", text: ({ emails }) => formatNumber(emails), align: "right" },
    ...(reasons.some((one) => one.provider !== undefined) ? [provider] : []),
    { title: "REASON", text: ({ reason }) => reason, elastic: true },
  ];
  return ["", paint(terminal, `${title}${part}`, "bold"), ...tableOf(columns, reasons, terminal)];
}
