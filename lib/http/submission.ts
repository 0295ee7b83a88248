// What a submission must be to become an email: every field checked, every mistake named, every default filled
// in. Nothing is shortened or repaired: what cannot be sent as it stands is refused. Pure.

import * as v from "valibot";
import {
  addressFault,
  hasControlCharacter,
  isAddress,
  isAmong,
  mailboxMax,
  sameAddress,
} from "../email/address.ts";
import type { Email } from "../email/email.ts";
import { fieldNames, type FieldName, type Fields } from "../email/fields.ts";
import { formatMailbox } from "../email/mailbox.ts";

/** Longest subject, UTF-16 units (Postmark's limit). */
export const subjectMax = 2000;
/** Longest `body` and longest `html`, bytes of UTF-8 (Postmark's limit). It also bounds what one email takes of the store. */
export const textBytesMax = 5_000_000;

export interface SenderRules {
  /** The sender of emails that name none. */
  readonly from?: string;
  /** Of this address, and of no other. */
  readonly fromName?: string;
  /** Addresses and `@domains`, this address among them; without them all are allowed. */
  readonly allowed?: readonly string[];
}

export type SubmissionResult =
  | { readonly ok: true; readonly email: Email; readonly given: GivenFields }
  /** Every wrong field, joined by `; `: a text for the client. */
  | { readonly ok: false; readonly message: string };

/** The known fields as submitted: trimmed, without the empty ones, before any default. */
export type GivenFields = { readonly [name in FieldName]?: string };

/** As long as Postmark's limit: the whole, as it stands in a header. */
const mailboxTooLong = `with its address is over ${mailboxMax} characters`;

const wellFormed = v.check<string, string>((value) => value.isWellFormed(), "has a lone surrogate");
const withoutNul = v.check<string, string>((value) => !value.includes("\0"), "has a NUL character");
const oneLine = v.check<string, string>((value) => !hasControlCharacter(value), "has a control character");

const notTooLong = v.check<string, string>(
  (value) => Buffer.byteLength(value) <= textBytesMax,
  `is over ${textBytesMax} bytes`,
);

const line = v.pipe(v.string(), wellFormed, oneLine);
const text = v.pipe(v.string(), wellFormed, withoutNul, notTooLong);
const address = v.pipe(
  v.string(),
  v.check(isAddress, ({ input }) => addressFault(input)),
);

const schema = v.object(
  {
    subject: v.pipe(line, v.maxLength(subjectMax, `is over ${subjectMax} characters`)),
    body: v.pipe(
      text,
      v.check((body) => /\S/.test(body), "is blank"),
    ),
    to: address,
    to_name: v.optional(line),
    from: address,
    from_name: v.optional(line),
    html: v.optional(text),
    reply_to: v.optional(address),
  } satisfies Record<FieldName, unknown>,
  "is required",
);

const parse = v.safeParser(schema, { abortPipeEarly: true });

/** Checks the fields of a request, and makes the email of them. */
export function checkSubmission(fields: Fields, senders: SenderRules): SubmissionResult {
  const given = normalize(fields);
  const from = given.from ?? senders.from;
  const parsed = parse(from === given.from ? given : { ...given, from });

  const faults: { [name in FieldName]?: string } = {};
  for (const issue of parsed.issues ?? []) faults[issue.path![0].key as FieldName] ??= issue.message;
  if (from !== undefined && senders.allowed !== undefined && !isAmong(from, senders.allowed)) {
    faults.from ??= "is not among the allowed senders";
  }
  if (isTooLong(given.to, given.to_name)) faults.to_name ??= mailboxTooLong;
  if (isTooLong(from, given.from_name)) faults.from_name ??= mailboxTooLong;
  Object.assign(faults, fields.faults);

  const told = fieldNames.flatMap((name) => (faults[name] ? [`${name}: ${faults[name]}`] : []));
  if (!parsed.success || told.length > 0) return { ok: false, message: told.join("; ") };
  return { ok: true, email: toEmail(parsed.output, senders), given };
}

/**
 * Tells one email from another under the same idempotency key: SHA-256, in base64url, of the fields as submitted.
 * It does not depend on the encoding of the body, nor on the settings.
 */
export function fingerprint(given: GivenFields): string {
  const canonical: { [name in FieldName]?: string } = {};
  for (const name of fieldNames) {
    if (given[name] !== undefined) canonical[name] = given[name];
  }
  return new Bun.CryptoHasher("sha256").update(JSON.stringify(canonical)).digest("base64url");
}

function normalize({ values, faults }: Fields): GivenFields {
  const given: { [name in FieldName]?: string } = {};
  for (const name of fieldNames) {
    const value = values[name];
    if (value === undefined || faults[name] !== undefined) continue;
    const kept = name === "body" || name === "html" ? value : value.trim();
    if (kept !== "") given[name] = kept;
  }
  return given;
}

function toEmail(fields: v.InferOutput<typeof schema>, senders: SenderRules): Email {
  const { to, to_name, from, from_name, reply_to, subject, body, html } = fields;
  const isDefault = senders.from !== undefined && sameAddress(from, senders.from);
  const sender = from_name ?? (isDefault ? senders.fromName : undefined);
  return {
    to,
    ...(to_name !== undefined && { to_name }),
    from,
    ...(sender !== undefined && { from_name: sender }),
    ...(reply_to !== undefined && { reply_to }),
    subject,
    body,
    ...(html !== undefined && { html }),
  };
}

/** The name of the settings is never the client's mistake: it is checked at start. */
function isTooLong(mailbox: string | undefined, name: string | undefined): boolean {
  return mailbox !== undefined && name !== undefined && formatMailbox(mailbox, name).length > mailboxMax;
}
