// All that is known of one email, read out of what the queue keeps: the values behind what `list` and `show` print,
// and their documented form in JSON. Emails may be damaged: then they are told as they are.

import { decodeEmail, decodeEnvelope, type Email, type Envelope } from "../../email/email.ts";
import type { Attempt, Attempts } from "../../policy/attempts.ts";
import {
  decodeHistory,
  decodeNotes,
  decodeRecord,
  type History,
  noHistory,
  type SentRecord,
  withNotes,
} from "../../policy/history.ts";
import { decideRetry } from "../../policy/operator_retry.ts";
import type { StoredEmail } from "../../queue/contract.ts";
import { isoOf } from "../format.ts";

export interface EmailView {
  readonly stored: StoredEmail;
  /** Nothing of a deleted one, nor of one that cannot be read. */
  readonly email: Partial<Email> & Partial<Envelope>;
  /** Something of it cannot be read. */
  readonly isDamaged: boolean;
  readonly attempts: Attempts;
  readonly record: Omit<SentRecord, "history"> | undefined;
  /** Of a sent one the time in its id, which is the server's. */
  readonly submittedAtMs: number | undefined;
  /** What is not written down before its batch is settled counts from the end of the lease. */
  readonly doubtSinceMs: number | undefined;
  /** Of a dead letter: why. Of one that is not sent: why the last attempt failed, or that nobody knows. */
  readonly reason: string | undefined;
  /** Of a dead letter: it may have been sent. */
  readonly outcomeUnknown: boolean;
  /** It went out again, or is to, although a provider may have it. */
  readonly mayBeDuplicate: boolean;
  readonly replayedAtMs: number | undefined;
}

/** The same for all of them, so that they are counted together. */
const lapsed = "a worker took it and has not reported since, and its lease has run out";

/** Of a UUIDv7, Unix ms. */
function timeInId(id: string): number | undefined {
  const [, high = "", low = ""] = /^([\da-f]{8})-([\da-f]{4})-7/i.exec(id) ?? [];
  return high === "" ? undefined : Number.parseInt(high + low, 16);
}

export function emailViewOf(stored: StoredEmail): EmailView {
  let isDamaged = false;
  const read = <T>(text: string | undefined, decode: (text: string) => T): T | undefined => {
    try {
      return text === undefined ? undefined : decode(text);
    } catch {
      isDamaged = true;
      return undefined;
    }
  };
  const email = read(stored.text, (text) => (text.includes("\n") ? decodeEmail(text) : decodeEnvelope(text)));
  const record = read(stored.record, decodeRecord);
  const notes = read(stored.batch?.notes, decodeNotes);
  const history: History = record?.history ?? read(stored.history, decodeHistory) ?? noHistory;
  const { attempts } = notes === undefined ? history : withNotes(history, notes);
  const { state, batch } = stored;
  const last = state === "sent" ? undefined : attempts.kept.at(-1);
  const hasLapsed = batch?.leaseExpired || (state === "in-doubt" && last?.outcome === "lapsed");
  return {
    stored,
    email: email ?? {},
    isDamaged,
    attempts,
    record,
    submittedAtMs: stored.submittedAtMs ?? (state === "sent" ? timeInId(stored.id) : undefined),
    doubtSinceMs: batch?.doubtSinceMs ?? (state === "in-doubt" ? batch?.dueAtMs : undefined),
    reason: history.deadReason ?? (hasLapsed ? lapsed : last?.reason),
    outcomeUnknown: stored.state === "dead" && decideRetry(stored.history, 0).mayBeDuplicate,
    mayBeDuplicate: stored.state !== "dead" && history.doubted,
    replayedAtMs: history.replayedAtMs,
  };
}

/** The documented form. What there is not is left out. */
export function emailJson(view: EmailView): Readonly<Record<string, unknown>> {
  const { stored, email, attempts, record } = view;
  const { state, batch } = stored;
  const { to, to_name, from, from_name, reply_to, subject, body, html } = email;
  const isDue = state === "waiting" || state === "retrying";
  return {
    id: stored.id,
    state,
    reason: view.reason,
    outcome_unknown: view.outcomeUnknown || undefined,
    possible_duplicate: view.mayBeDuplicate || undefined,
    unreadable: view.isDamaged || undefined,
    submitted_at: timeOf(view.submittedAtMs),
    due_at: isDue ? timeOf(stored.atMs) : undefined,
    died_at: state === "dead" ? timeOf(stored.atMs) : undefined,
    sent_at: timeOf(record?.atMs),
    retried_at: timeOf(view.replayedAtMs),
    provider: record?.provider ?? batch?.provider,
    provider_message_id: record?.providerMessageId,
    batch: record?.batchId ?? batch?.id,
    lease_ends_at: batch?.leased ? timeOf(batch.dueAtMs) : undefined,
    next_try_at: batch?.leased ? undefined : timeOf(batch?.dueAtMs),
    in_doubt_since: timeOf(view.doubtSinceMs),
    to,
    to_name,
    from,
    from_name,
    reply_to,
    subject,
    body,
    html,
    attempts: attempts.kept.map(attemptDocument),
    attempts_total: attempts.total,
  };
}

function attemptDocument({ provider, atMs, outcome, reason }: Attempt) {
  return { provider, at: timeOf(atMs), outcome, reason };
}

function timeOf(atMs: number | undefined): string | undefined {
  return atMs === undefined ? undefined : isoOf(atMs);
}
