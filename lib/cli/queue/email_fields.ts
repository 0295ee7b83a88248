// Everything that the queue knows about one email, as the fields that `list` and `show` print. A damaged email is shown as
// far as it can be read.

import { contentNames, decodeEmail, decodeEnvelope, type Email, envelopeNames } from "../../email/email.ts";
import {
  type Attachment,
  type Field,
  type FieldKinds,
  type FieldName,
  fields,
  labelOf,
  textNames,
  type ValueOf,
} from "../../email/fields.ts";
import { formatMailbox } from "../../email/address.ts";
import { addAttempts, decodeHistory, decodeNotes, decodeRecord, noHistory } from "../../policy/history.ts";
import { decideRetry } from "../../policy/operator_retry.ts";
import type { EmailState, StoredEmail } from "../../queue/contract.ts";
import type { DisplayField, Fields } from "../fields.ts";
import { formatBytes, formatNumber, formatTime } from "../format.ts";
import type { Style } from "../terminal.ts";

export type ListedState = Exclude<EmailState, "deleted">;

/** In the order of an email's life. */
export const stateMeanings: Readonly<Record<EmailState, string>> = {
  scheduled: "not to be sent before its time",
  waiting: "due: the next worker takes it",
  retrying: "failed, and due again later",
  sending: "a worker is handing it over",
  "in-doubt": "a provider may have accepted it: the service is finding out",
  sent: "accepted by a provider; the record is kept for a while",
  dead: "given up, and kept until it is retried or deleted",
  deleted: "nothing of it is kept",
};

export const listedStates = Object.keys(stateMeanings).filter(
  (state) => state !== "deleted",
) as ListedState[];

const stateStyles: Readonly<Partial<Record<EmailState, readonly Style[]>>> = {
  dead: ["bold", "red"],
  "in-doubt": ["bold", "yellow"],
  retrying: ["bold", "yellow"],
};

export type EmailFields = ReturnType<typeof emailFields>;

/** In the order in which `show` prints them. */
export function emailFields(stored: StoredEmail) {
  const { email, isDamaged, record, history, attempts } = decode(stored);
  const { id, state, batch, atMs } = stored;
  const { total, kept } = attempts;
  const outcomeUnknown = state === "dead" && decideRetry(stored.history, 0).mayBeDuplicate;
  const mayBeDuplicate = state !== "dead" && history.doubted;
  const isDue = state === "scheduled" || state === "waiting" || state === "retrying";
  const last = state === "sent" ? undefined : kept.at(-1);
  const hasLapsed = batch?.leaseExpired || (state === "in-doubt" && last?.outcome === "lapsed");
  const totalText =
    total > kept.length ? `${formatNumber(total)}, of which the first and the last are kept` : undefined;
  return {
    id: { label: "ID", value: id },
    state: {
      label: "State",
      value: state,
      text: `${state}: ${stateMeanings[state]}`,
      style: stateStyles[state] ?? ["bold"],
    },
    /** Why it is dead; or, if it is not sent, why the last attempt failed or that its worker has not reported. */
    reason: { label: "Reason", value: history.deadReason ?? (hasLapsed ? lapsedReason : last?.reason) },
    outcome_unknown: flagField(
      "Outcome",
      outcomeUnknown,
      "unknown: it may have been sent, and is retried only with --force",
    ),
    possible_duplicate: flagField(
      "Duplicate",
      mayBeDuplicate,
      "possible: it was or will be sent again, although a provider may have it",
    ),
    unreadable: flagField("Damaged", isDamaged, "part of it cannot be read"),
    ...submittedFields(email, lineNames),
    // A sent email keeps no other time of submission than that in its id, by the server's clock.
    submitted_at: {
      label: "Submitted",
      atMs: stored.submittedAtMs ?? (state === "sent" ? timeInId(id) : undefined),
    },
    retried_at: { label: "Retried", atMs: history.replayedAtMs },
    due_at: { label: "Due", atMs: isDue ? atMs : undefined },
    died_at: { label: "Died", atMs: state === "dead" ? atMs : undefined },
    sent_at: { label: "Sent", atMs: record?.atMs },
    provider: { label: "Provider", value: record?.provider ?? batch?.provider },
    provider_message_id: { label: "Message", value: record?.providerMessageId },
    batch: { label: "Batch", value: record?.batchId ?? batch?.id },
    // Until the doubt is written down, it counts from the end of the lease.
    in_doubt_since: {
      label: "In doubt",
      atMs: batch?.doubtSinceMs ?? (state === "in-doubt" ? batch?.dueAtMs : undefined),
    },
    lease_ends_at: { label: "Lease ends", atMs: batch?.leased ? batch.dueAtMs : undefined },
    next_try_at: { label: "Next try", atMs: batch?.leased ? undefined : batch?.dueAtMs },
    attempts_total: { label: "Attempts", value: total, text: totalText },
    attempts: {
      value: kept.map(({ atMs: attemptAtMs, ...attempt }) => ({ at: formatTime(attemptAtMs), ...attempt })),
    },
    ...submittedFields(email, listNames),
    ...submittedFields(email, contentNames),
  } satisfies Fields;
}

export type ListedFields = ReturnType<typeof listedFields>;

/** The fields of an email in a list. Bcc is omitted, and its addresses are replaced in the reasons of providers. */
export function listedFields(stored: StoredEmail) {
  const { bcc, ...fields } = emailFields(stored);
  const { value: addresses = [] } = bcc;
  if (addresses.length === 0) return fields;
  const hidden = new RegExp(addresses.map((address) => RegExp.escape(address)).join("|"), "gi");
  const hide = (text: string | undefined) => text?.replace(hidden, "(a Bcc address)");
  const attempts = fields.attempts.value.map((attempt) => ({ ...attempt, reason: hide(attempt.reason) }));
  return {
    ...fields,
    reason: { ...fields.reason, value: hide(fields.reason.value) },
    attempts: { value: attempts },
  };
}

/** The same text for every email, so that `stats` counts them together. */
const lapsedReason = "its worker has not reported, and the lease has expired";

/** `true` in JSON and a text for people, or left out. */
function flagField(label: string, isSet: boolean, text: string): DisplayField {
  return isSet ? { label, value: true, text } : {};
}

/** Fields that may take several lines are shown after the others. */
const isList = (name: FieldName) => fields[name].kind === "pairs" || fields[name].kind === "files";
const lineNames = envelopeNames.filter((name) => !isList(name));
const listNames = envelopeNames.filter(isList);

/** An address is shown with its display name; content is not shown in a line. */
function submittedFields<Name extends FieldName>(email: Partial<Email>, names: readonly Name[]) {
  const entries = names.map((name) => {
    const label = fields[name].storedIn === "envelope" ? labelOf(name) : undefined;
    return [name, { ...displayedValue(email, name), ...(label && { label }) }];
  });
  return Object.fromEntries(entries) as {
    readonly [name in Name]: DisplayField & { readonly value?: DisplayedValue<name> };
  };
}

/** Pairs are an object in JSON, as in a submission. */
type DisplayedValue<Name extends FieldName> =
  ValueOf<Name> extends FieldKinds["pairs"] ? Readonly<Record<string, string>> : ValueOf<Name>;

function displayedValue(email: Partial<Email>, name: FieldName): DisplayField {
  const value: unknown = email[name];
  if (value === undefined) return {};
  const { kind } = fields[name];
  if (kind !== "text") return (displayedAs[kind] as (value: unknown) => DisplayField)(value);
  const displayName = textNames.find((one) => (fields[one] as Field).nameOf === name);
  return { value, text: displayName && formatMailbox(value as string, email[displayName]) };
}

const displayedAs: {
  readonly [kind in Exclude<keyof FieldKinds, "text">]: (value: FieldKinds[kind]) => DisplayField;
} = {
  addresses: (value) => ({ value, text: value.join(", ") }),
  pairs: (pairs) => ({ value: Object.fromEntries(pairs), text: pairs.map((pair) => pair.join(": ")) }),
  files: (value) => ({ value, text: value.map(describeFile) }),
};

/** @param i index from 0; the number for `queue show --attachment` is one more */
function describeFile({ filename, content_type, size, content_id }: Attachment, i: number): string {
  const id = content_id === undefined ? "" : `, cid:${content_id}`;
  return `${i + 1}. ${filename} (${content_type}, ${formatBytes(size)}${id})`;
}

/** The time in a UUIDv7, Unix ms. */
function timeInId(id: string): number | undefined {
  const [, high = "", low = ""] = /^([\da-f]{8})-([\da-f]{4})-7/i.exec(id) ?? [];
  return high === "" ? undefined : Number.parseInt(high + low, 16);
}

function decode(stored: StoredEmail) {
  let isDamaged = false;
  const read = <T>(text: string | undefined, decodeText: (text: string) => T): T | undefined => {
    try {
      return text === undefined ? undefined : decodeText(text);
    } catch {
      isDamaged = true;
      return undefined;
    }
  };
  /** Empty for a deleted email, and for one that cannot be read. */
  const email: Partial<Email> =
    read(stored.text, (text) => (text.includes("\n") ? decodeEmail : decodeEnvelope)(text)) ?? {};
  const record = read(stored.record, decodeRecord);
  const notes = read(stored.batch?.notes, decodeNotes);
  const history = record?.history ?? read(stored.history, decodeHistory) ?? noHistory;
  const { attempts } = notes === undefined ? history : addAttempts(history, notes.attempts);
  return { email, isDamaged, record, history, attempts };
}
