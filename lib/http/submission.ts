// Turns the fields of a request into an email: checks each field, names each invalid one, and fills in the defaults.
// Nothing is shortened or repaired: a field that cannot be sent as given is refused.

import { formatMailbox, isAmong, mailboxMax, sameAddress } from "../email/address.ts";
import type { Email } from "../email/email.ts";
import {
  type Attachment,
  type Field,
  fieldNames,
  fields,
  type FieldValues,
  isTextName,
  type ListName,
  type Pair,
  pickFields,
  type TextName,
} from "../email/fields.ts";
import { parseInstant } from "../email/instant.ts";
import { emailBytes, emailBytesMax } from "../email/size.ts";
import {
  checkAddresses,
  type CheckedFile,
  checkFiles,
  checkHeaders,
  checkTags,
  type Report,
} from "./list_checks.ts";
import type { GivenLists, SubmittedFields } from "./submitted_fields.ts";

/** Longest time for which an email may be scheduled, days. */
export const scheduleMaxDays = 30;
const dayMs = 24 * 60 * 60 * 1000;

/** The settings about senders, by their names in `Config`. */
export interface SenderRules {
  /** The sender of emails that name none. */
  readonly defaultFrom?: string | undefined;
  /** The display name of that sender, and of no other. */
  readonly defaultFromName?: string | undefined;
  /** Addresses and `@domains` that may send, the default sender among them. Default: all. */
  readonly allowedFrom?: readonly string[] | undefined;
}

export type SubmissionResult =
  | {
      readonly ok: true;
      readonly email: Email;
      /** The known fields as submitted: trimmed, without the empty ones, before any default. */
      readonly given: Readonly<FieldValues>;
      /** Contents of the attachments. */
      readonly files?: readonly Uint8Array[];
      /** `send_at`, Unix ms. */
      readonly sendAtMs?: number;
    }
  /** Names every invalid field, joined by `; `, for the client. */
  | { readonly ok: false; readonly message: string };

const rows = fieldNames.map((name) => {
  return isTextName(name)
    ? { name, isText: true as const, isTrimmed: fields[name].isTrimmed }
    : { name: name as ListName, isText: false as const };
});

/**
 * Checks the fields of a request and makes an email of them.
 * @param nowMs Unix ms
 */
export function checkSubmission(
  submitted: SubmittedFields,
  senders: SenderRules,
  nowMs: number,
): SubmissionResult {
  const { values, faults } = submitted;
  const given: FieldValues = {};
  let files: readonly CheckedFile[] | undefined;
  let message = "";
  const report: Report = (place, fault) => (message += `${message && "; "}${place}: ${fault}`);
  for (const row of rows) {
    const { name } = row;
    if (row.isText) {
      const value = row.isTrimmed ? values[row.name]?.trim() : values[row.name];
      if (value && faults[name] === undefined) given[row.name] = value;
      const fault = faults[name] ?? faultOf(row.name, given, senders, nowMs);
      if (fault !== undefined) report(name, fault);
    } else if (faults[name] !== undefined) report(name, faults[name]);
    else if (values[name] !== undefined) {
      files = checkList(row.name, values, given, (place, fault) => report(name + place, fault)) ?? files;
    }
  }
  if (message === "" && files !== undefined) given.attachments = files.map(attachmentOf);
  const bytes = message === "" && mayBeLarge(given) ? emailBytes(given) : 0;
  if (bytes > emailBytesMax) {
    const hint = files === undefined ? "" : ": files count in base64";
    message = `the email has ${bytes} bytes, over ${emailBytesMax}${hint}`;
  }
  if (message !== "") return { ok: false, message };

  const sendAtMs = given.send_at === undefined ? undefined : parseInstant(given.send_at)!;
  if (sendAtMs !== undefined) given.send_at = new Date(sendAtMs).toISOString();
  const email = withDefaults(given, senders);
  // The types in the email depend on the table of this release.
  const asGiven = (one: Attachment, i: number) => ({ ...one, content_type: files![i]!.givenType });
  if (given.attachments !== undefined) given.attachments = given.attachments.map(asGiven);
  return {
    ok: true,
    email,
    given,
    ...(files && { files: files.map(({ content }) => content) }),
    ...(sendAtMs !== undefined && { sendAtMs }),
  };
}

/** Sets a field of `given` unless its list is empty. Files are returned instead. */
function checkList(
  name: ListName,
  lists: GivenLists,
  given: FieldValues,
  report: Report,
): readonly CheckedFile[] | undefined {
  if (name === "attachments") {
    const files = checkFiles(lists[name] ?? [], report);
    return files.length > 0 ? files : undefined;
  }
  if (name === "headers" || name === "tags") {
    const check = name === "headers" ? checkHeaders : checkTags;
    const pairs = check(lists[name] ?? [], report);
    if (pairs.length > 0) given[name] = pairs;
  } else {
    const { to = [], cc = [] } = given;
    const addresses = checkAddresses(lists[name] ?? [], [to, cc].flat(), report);
    if (addresses.length > 0) given[name] = addresses;
  }
  return undefined;
}

/** Whether an email may be too large, and is worth measuring: all other fields take less than a megabyte. */
function mayBeLarge({ body = "", html = "", attachments }: Readonly<FieldValues>): boolean {
  return attachments !== undefined || 3 * (body.length + html.length) > emailBytesMax - 1_000_000;
}

function attachmentOf(file: CheckedFile): Attachment {
  const { filename, content_type, declares_type, content_id, size, content } = file;
  return {
    filename,
    content_type,
    ...(declares_type && { declares_type }),
    size,
    sha256: new Bun.CryptoHasher("sha256").update(content).digest("hex"),
    ...(content_id !== undefined && { content_id }),
  };
}

/** The defaults were checked at startup, and the client could not change them. */
function withDefaults(given: FieldValues, { defaultFrom, defaultFromName }: SenderRules): Email {
  const email = { from: defaultFrom, ...given } as Email;
  const hasDefaultName =
    defaultFromName !== undefined && defaultFrom !== undefined && sameAddress(email.from, defaultFrom);
  return hasDefaultName ? { from_name: defaultFromName, ...email } : email;
}

/** @param given the fields so far: those of a display name include its address */
function faultOf(
  name: TextName,
  given: FieldValues,
  senders: SenderRules,
  nowMs: number,
): string | undefined {
  const { allowedFrom, defaultFrom } = senders;
  const field: Field = fields[name];
  const value = given[name];
  if (value === undefined) {
    const hasDefault = name === "from" && defaultFrom !== undefined;
    return field.isRequired && !hasDefault ? "is required" : undefined;
  }
  const fault = field.faultOf(value);
  if (fault !== undefined) return fault;
  if (name === "from" && allowedFrom !== undefined && !isAmong(value, allowedFrom)) {
    return "is not among the allowed senders";
  }
  if (name === "send_at" && parseInstant(value)! > nowMs + scheduleMaxDays * dayMs) {
    return `is over ${scheduleMaxDays} days ahead`;
  }
  const address =
    field.nameOf && (given[field.nameOf] ?? (field.nameOf === "from" ? defaultFrom : undefined));
  // A name of megabytes is not formatted.
  const isTooLong =
    address !== undefined && (value.length > mailboxMax || formatMailbox(address, value).length > mailboxMax);
  return isTooLong ? `with its address is over ${mailboxMax} characters` : undefined;
}

/**
 * Identifies an email under its idempotency key: SHA-256, in base64url, of the fields as submitted. Depends neither on
 * the encoding of the body nor on the settings, nor on the order of headers and of tags, nor on which types of files this
 * release knows.
 */
export function fingerprint(given: Readonly<FieldValues>): string {
  const { headers, tags, attachments } = given;
  const values: Record<string, unknown> = pickFields(given, fieldNames);
  if (headers) values["headers"] = sortedPairs(headers.map(([name, value]) => [name.toLowerCase(), value]));
  if (tags) values["tags"] = sortedPairs(tags);
  if (attachments) {
    values["attachments"] = attachments.map(({ filename, content_type, content_id = "", sha256 }) => {
      return [filename, content_type, content_id, sha256];
    });
  }
  return new Bun.CryptoHasher("sha256").update(JSON.stringify(values)).digest("base64url");
}

function sortedPairs(pairs: readonly Pair[]): Pair[] {
  return pairs.toSorted(([one], [other]) => (one < other ? -1 : 1));
}
