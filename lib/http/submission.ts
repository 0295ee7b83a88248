// From the fields of a request to an email: checks each field, names each invalid one, and fills in the defaults.
// Nothing is shortened or repaired: what cannot be sent as it is gets refused.

import { formatMailbox, isAmong, mailboxMax, sameAddress } from "../email/address.ts";
import type { Email } from "../email/email.ts";
import {
  type Field,
  type FieldName,
  fieldNames,
  fields,
  type FieldValues,
  pickFields,
} from "../email/fields.ts";

/** The known fields of a request, before any check. */
export interface SubmittedFields {
  /** As given, not trimmed. */
  readonly values: FieldValues;
  /** The fault in the form in which a field was given. Its value does not count then. */
  readonly faults: FieldValues;
}

export interface SenderRules {
  /** The sender of emails that name none. */
  readonly from?: string;
  /** The display name of that sender, and of no other. */
  readonly fromName?: string;
  /** Addresses and `@domains` that may send, `from` among them. Default: all. */
  readonly allowed?: readonly string[];
}

/** The known fields as submitted: trimmed, without the empty ones, before any default. */
export type GivenFields = Readonly<FieldValues>;

export type SubmissionResult =
  | { readonly ok: true; readonly email: Email; readonly given: GivenFields }
  /** Names every invalid field, joined by `; `, for the client. */
  | { readonly ok: false; readonly message: string };

/**
 * Adds a field of a request; the second of a name is a fault.
 * @param fault what is wrong with the form in which it was given, if anything
 */
export function giveField(given: SubmittedFields, name: FieldName, value: string, fault?: string): void {
  const { values, faults } = given;
  if (values[name] !== undefined || faults[name] !== undefined) faults[name] = "is given twice";
  else if (fault !== undefined) faults[name] = fault;
  else values[name] = value;
}

/** Checks the fields of a request and makes an email of them. */
export function checkSubmission(submitted: SubmittedFields, senders: SenderRules): SubmissionResult {
  const given = normalize(submitted);
  const email: FieldValues = { ...given };
  if (email.from === undefined && senders.from !== undefined) email.from = senders.from;

  let message = "";
  for (const name of fieldNames) {
    const fault = submitted.faults[name] ?? faultOf(name, email, senders);
    if (fault !== undefined) message += `${message && "; "}${name}: ${fault}`;
  }
  if (message !== "") return { ok: false, message };

  const { fromName } = senders;
  // The settings' own name was checked at startup, and the client could not change it.
  if (email.from_name === undefined && fromName !== undefined && isDefault(email.from!, senders)) {
    email.from_name = fromName;
  }
  return { ok: true, email: email as Email, given };
}

/**
 * Identifies an email under its idempotency key: SHA-256, in base64url, of the fields as submitted. Depends neither on
 * the encoding of the body nor on the settings.
 */
export function fingerprint(given: GivenFields): string {
  const canonical = JSON.stringify(pickFields(given, fieldNames));
  return new Bun.CryptoHasher("sha256").update(canonical).digest("base64url");
}

function normalize({ values, faults }: SubmittedFields): GivenFields {
  const given: FieldValues = {};
  for (const name of fieldNames) {
    const value = fields[name].isTrimmed ? values[name]?.trim() : values[name];
    if (value && faults[name] === undefined) given[name] = value;
  }
  return given;
}

function faultOf(name: FieldName, email: GivenFields, senders: SenderRules): string | undefined {
  const field: Field = fields[name];
  const value = email[name];
  if (value === undefined) return field.isRequired ? "is required" : undefined;
  const fault = field.faultOf(value);
  if (fault !== undefined) return fault;
  if (name === "from" && senders.allowed !== undefined && !isAmong(value, senders.allowed)) {
    return "is not among the allowed senders";
  }
  const address = field.nameOf && email[field.nameOf];
  const isTooLong = address !== undefined && formatMailbox(address, value).length > mailboxMax;
  return isTooLong ? `with its address is over ${mailboxMax} characters` : undefined;
}

function isDefault(from: string, senders: SenderRules): boolean {
  return senders.from !== undefined && sameAddress(from, senders.from);
}
