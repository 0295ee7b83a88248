// Everything that is known about one email, read from what the queue keeps, and the fields in which `list` and `show`
// print it. A damaged email is shown as far as it can be read.

import { decodeEmail, decodeEnvelope, type Email, type Envelope } from "../../email/email.ts";
import { formatMailbox } from "../../email/mailbox.ts";
import {
  decodeHistory,
  decodeNotes,
  decodeRecord,
  type History,
  noHistory,
  withNotes,
} from "../../policy/history.ts";
import { decideRetry } from "../../policy/operator_retry.ts";
import type { EmailState, StoredEmail } from "../../queue/contract.ts";
import { type Field, isoTime } from "../fields.ts";
import { formatNumber } from "../format.ts";
import type { Style } from "../terminal.ts";

export type ListedState = Exclude<EmailState, "deleted">;

/** In the order of an email's life. */
export const listedStates = [
  "waiting",
  "retrying",
  "sending",
  "in-doubt",
  "sent",
  "dead",
] as const satisfies readonly ListedState[];

export const stateMeanings: Readonly<Record<EmailState, string>> = {
  waiting: "due: the next worker takes it",
  retrying: "failed, and due again later",
  sending: "a worker is handing it over",
  "in-doubt": "a provider may have accepted it: the service is finding out",
  sent: "accepted by a provider; the record is kept for a while",
  dead: "given up, and kept until it is retried or deleted",
  deleted: "deleted: nothing of it is kept",
};

/** The same text for every email, so that `stats` counts them together. */
const lapsedReason = "a worker took it and has not reported since, and its lease has run out";

/** The time in a UUIDv7, Unix ms. */
function timeInId(id: string): number | undefined {
  const [, high = "", low = ""] = /^([\da-f]{8})-([\da-f]{4})-7/i.exec(id) ?? [];
  return high === "" ? undefined : Number.parseInt(high + low, 16);
}

export type EmailView = ReturnType<typeof emailViewOf>;

export function emailViewOf(stored: StoredEmail) {
  let isDamaged = false;
  const read = <T>(text: string | undefined, decode: (text: string) => T): T | undefined => {
    try {
      return text === undefined ? undefined : decode(text);
    } catch {
      isDamaged = true;
      return undefined;
    }
  };
  const { id, state, batch } = stored;
  const decode = stored.text?.includes("\n") ? decodeEmail : decodeEnvelope;
  /** Empty for a deleted email, and for one that cannot be read. */
  const email: Partial<Email> & Partial<Envelope> = read<Email | Envelope>(stored.text, decode) ?? {};
  const record = read(stored.record, decodeRecord);
  const notes = read(batch?.notes, decodeNotes);
  const history: History = record?.history ?? read(stored.history, decodeHistory) ?? noHistory;
  const { attempts } = notes === undefined ? history : withNotes(history, notes);
  const last = state === "sent" ? undefined : attempts.kept.at(-1);
  const hasLapsed = batch?.leaseExpired || (state === "in-doubt" && last?.outcome === "lapsed");
  return {
    stored,
    email,
    /** Part of it cannot be read. */
    isDamaged,
    attempts,
    record,
    provider: record?.provider ?? batch?.provider,
    /** For a sent email, the time in its id, by the server's clock. */
    submittedAtMs: stored.submittedAtMs ?? (state === "sent" ? timeInId(id) : undefined),
    /** While the doubt has not been written down, the end of the lease. */
    doubtSinceMs: batch?.doubtSinceMs ?? (state === "in-doubt" ? batch?.dueAtMs : undefined),
    /** Why it is dead; or, if it is not sent, why the last attempt failed or that its worker has not reported. */
    reason: history.deadReason ?? (hasLapsed ? lapsedReason : last?.reason),
    /** It is a dead letter that may have been sent. */
    outcomeUnknown: state === "dead" && decideRetry(stored.history, 0).mayBeDuplicate,
    /** It was or will be sent again although a provider may have it. */
    mayBeDuplicate: state !== "dead" && history.doubted,
    retriedAtMs: history.replayedAtMs,
  };
}

/** In the order in which `show` prints them. */
export function emailFields(view: EmailView): readonly Field[] {
  const { stored, email, record, attempts } = view;
  const { state, batch, atMs } = stored;
  const { total, kept } = attempts;
  return [
    { key: "id", label: "ID", value: stored.id },
    {
      key: "state",
      label: "State",
      value: state,
      text: `${state}: ${stateMeanings[state]}`,
      style: stateStyles[state] ?? ["bold"],
    },
    { key: "reason", label: "Reason", value: view.reason },
    flagField(
      "outcome_unknown",
      "Outcome",
      view.outcomeUnknown,
      "unknown: it may have been sent, and is retried only with --force",
    ),
    flagField(
      "possible_duplicate",
      "Duplicate",
      view.mayBeDuplicate,
      "possible: it was or will be sent again, although a provider may have it",
    ),
    flagField("unreadable", "Damaged", view.isDamaged, "part of it cannot be read"),
    { key: "from", label: "From", value: email.from, text: mailboxText(email.from, email.from_name) },
    { key: "from_name", value: email.from_name },
    { key: "to", label: "To", value: email.to, text: mailboxText(email.to, email.to_name) },
    { key: "to_name", value: email.to_name },
    { key: "reply_to", label: "Reply to", value: email.reply_to },
    { key: "subject", label: "Subject", value: email.subject },
    { key: "submitted_at", label: "Submitted", atMs: view.submittedAtMs },
    { key: "retried_at", label: "Retried", atMs: view.retriedAtMs },
    { key: "due_at", label: "Due", atMs: state === "waiting" || state === "retrying" ? atMs : undefined },
    { key: "died_at", label: "Died", atMs: state === "dead" ? atMs : undefined },
    { key: "sent_at", label: "Sent", atMs: record?.atMs },
    { key: "provider", label: "Provider", value: view.provider },
    { key: "provider_message_id", label: "Message", value: record?.providerMessageId },
    { key: "batch", label: "Batch", value: record?.batchId ?? batch?.id },
    { key: "in_doubt_since", label: "In doubt", atMs: view.doubtSinceMs },
    { key: "lease_ends_at", label: "Lease ends", atMs: batch?.leased ? batch.dueAtMs : undefined },
    { key: "next_try_at", label: "Next try", atMs: batch?.leased ? undefined : batch?.dueAtMs },
    {
      key: "attempts_total",
      label: "Attempts",
      value: total,
      ...(total > kept.length && {
        text: `${formatNumber(total)}, of which the first and the last are kept`,
      }),
    },
    { key: "attempts", value: kept.map(({ atMs: at, ...attempt }) => ({ at: isoTime(at), ...attempt })) },
    { key: "body", value: email.body },
    { key: "html", value: email.html },
  ];
}

/** `true` in JSON and a text for people, or absent. */
function flagField(key: string, label: string, isSet: boolean, text: string): Field {
  return isSet ? { key, label, value: true, text } : { key };
}

function mailboxText(address: string | undefined, name: string | undefined): string {
  return address === undefined ? "" : formatMailbox(address, name);
}

const stateStyles: Readonly<Partial<Record<EmailState, readonly Style[]>>> = {
  dead: ["bold", "red"],
  "in-doubt": ["bold", "yellow"],
  retrying: ["bold", "yellow"],
};
