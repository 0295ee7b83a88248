// `queue show`: the whole story of one email.

import { formatMailbox } from "../../email/mailbox.ts";
import type { AttemptEnd, Attempt } from "../../policy/attempts.ts";
import type { SingleCommand } from "../command.ts";
import { readArguments } from "../command.ts";
import { complain, print, printJson } from "../output.ts";
import { tableOf } from "../table.ts";
import { ageOf, isoOf, numberOf, visible, visibleLines } from "../format.ts";
import { painter, type Style, type Terminal } from "../terminal.ts";
import { done, failed, withQueue } from "./open_queue.ts";
import { meanings } from "./states.ts";
import { emailJson, type EmailView, emailViewOf } from "./email_view.ts";

export const showCommand: SingleCommand = {
  name: "queue show",
  summary: "the whole story of one email",
  help: [
    "Usage: reliable-email queue show <id> [--json]",
    "",
    "Shows one email: its state and its reason, its addresses and its content, every",
    "attempt with provider, time, outcome and reason, the batch that it is in (whose",
    "id is the idempotency key), and when something happens next.",
    "",
    "Of a sent email the content is not kept, and its record only for RETAIN.",
    "",
    "Options:",
    "  --json  one object; README.md lists its fields, and the outcomes of an attempt",
  ].join("\n"),
  async run(args) {
    const read = readArguments(args, { json: { type: "boolean", default: false } });
    if (!read.ok) return { kind: "wrongUsage", usageError: read.usageError };
    const [id, stray] = read.values.words;
    if (id === undefined) return { kind: "wrongUsage", usageError: "Which email?" };
    if (stray !== undefined) return { kind: "wrongUsage", usageError: `Unexpected argument '${stray}'` };
    return withQueue(async ({ admin, terminal }) => {
      const stored = await admin.show(id);
      if (stored === undefined) {
        complain(`Unknown id: ${visible(id)}`);
        return failed;
      }
      const view = emailViewOf(stored);
      if (read.values.options.json) printJson(emailJson(view));
      else print(tell(view, (await admin.stats()).nowMs, terminal).join("\n"));
      return done;
    });
  },
};

function tell(view: EmailView, nowMs: number, terminal: Terminal): string[] {
  const { stored, email, record, reason, attempts } = view;
  const { state, batch } = stored;
  const paint = painter(terminal);
  const time = (atMs: number) => `${isoOf(atMs)} (${ageOf(atMs, nowMs)})`;
  const field = (name: string, value: string | undefined) =>
    value === undefined ? [] : [`${paint(name.padEnd(11), "dim")} ${visible(value)}`];
  const when = (name: string, atMs: number | undefined) =>
    field(name, atMs === undefined ? undefined : time(atMs));
  const mailbox = (address: string | undefined, name?: string) =>
    address === undefined ? undefined : formatMailbox(address, name);
  const part = (title: string, text: string | undefined) =>
    text === undefined ? [] : ["", paint(title, "bold"), visibleLines(text).trimEnd()];

  return [
    ...field("Email", stored.id),
    `${paint("State".padEnd(11), "dim")} ${paint(state, ...styleOf(state))}: ${meanings[state]}`,
    ...field("Reason", reason),
    ...(view.outcomeUnknown
      ? field("Outcome", "unknown: it may have been sent, and to retry it needs --force")
      : []),
    ...(view.mayBeDuplicate
      ? field("Duplicate", "possible: it went out again, or is to, although a provider may have it")
      : []),
    ...(view.isDamaged ? field("Damaged", "something of it cannot be read") : []),
    ...field("From", mailbox(email.from, email.from_name)),
    ...field("To", mailbox(email.to, email.to_name)),
    ...field("Reply to", email.reply_to),
    ...field("Subject", email.subject),
    ...when("Submitted", view.submittedAtMs),
    ...when("Retried", view.replayedAtMs),
    ...when(state === "dead" ? "Died" : "Due", stored.atMs),
    ...when("Sent", record?.atMs),
    ...field("Provider", record?.provider ?? batch?.provider),
    ...field("Message", record?.providerMessageId),
    ...field("Batch", record?.batchId ?? batch?.id),
    ...when("In doubt", view.doubtSinceMs),
    ...when(batch?.leased ? "Lease ends" : "Next try", batch?.dueAtMs),
    ...field(
      "Attempts",
      attempts.total > attempts.kept.length
        ? `${numberOf(attempts.total)}, of which the first and the last are kept`
        : numberOf(attempts.total),
    ),
    ...(attempts.kept.length === 0 ? [] : ["", ...attemptLines(attempts.kept, nowMs, terminal)]),
    ...part("Body", email.body),
    ...part("HTML", email.html),
    // What cannot be read can be rescued only by somebody who sees it.
    ...part("As stored", view.isDamaged ? stored.text : undefined),
  ];
}

function attemptLines(attempts: readonly Attempt[], nowMs: number, terminal: Terminal): string[] {
  return tableOf<Attempt>(
    [
      { title: "AT", text: ({ atMs }) => isoOf(atMs) },
      { title: "AGO", text: ({ atMs }) => ageOf(atMs, nowMs).replace(" ago", ""), align: "right" },
      { title: "PROVIDER", text: ({ provider }) => provider },
      { title: "OUTCOME", text: ({ outcome }) => outcomes[outcome] ?? outcome },
      { title: "REASON", text: ({ reason }) => reason ?? "" },
    ],
    attempts,
    // A reason is read here, if anywhere: it may take more than a line.
    { ...terminal, width: undefined },
  );
}

/** All outcomes of an attempt, in words. */
export const outcomes: Readonly<Record<AttemptEnd, string>> = {
  accepted: "accepted",
  rejected: "rejected",
  senderRefused: "sender refused",
  accountRefused: "account refused",
  throttled: "throttled",
  unavailable: "unavailable",
  unknown: "unknown",
  keyReused: "key reused",
  lapsed: "lease expired",
  recalled: "found accepted",
  notFound: "not found",
  doubtEnded: "doubt ended",
  split: "batch split",
  handedOver: "handed over",
};

function styleOf(state: EmailView["stored"]["state"]): Style[] {
  if (state === "dead") return ["bold", "red"];
  return state === "in-doubt" || state === "retrying" ? ["bold", "yellow"] : ["bold"];
}
