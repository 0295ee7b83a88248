// Turns the fields of a request into an email: checks each field, names each invalid one, and fills in the defaults.
// Nothing is shortened or repaired: a field that cannot be sent as given is refused.

import { formatMailbox, isAmong, mailboxMax, sameAddress } from "../email/address.ts";
import type { Email } from "../email/email.ts";
import {
  type Field,
  type FieldName,
  fieldNames,
  fields,
  type FieldValues,
  pickFields,
  type TextName,
  textNames,
} from "../email/fields.ts";

/** The known fields of a request, before any check. */
export interface SubmittedFields {
  /** As given, not trimmed. */
  readonly values: { [name in TextName]?: string };
  /** Faults in the form in which a field was given. Its value is then ignored. */
  readonly faults: { [name in FieldName]?: string };
}

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
  /** `given`: the known fields as submitted: trimmed, without the empty ones, before any default. */
  | { readonly ok: true; readonly email: Email; readonly given: Readonly<FieldValues> }
  /** Names every invalid field, joined by `; `, for the client. */
  | { readonly ok: false; readonly message: string };

/**
 * Adds a field of a request; giving a field twice is a fault.
 * @param fault what is wrong with the form in which it was given, if anything
 */
export function addField(given: SubmittedFields, name: TextName, value: string, fault?: string): void {
  const { values, faults } = given;
  if (values[name] !== undefined || faults[name] !== undefined) faults[name] = "is given twice";
  else if (fault !== undefined) faults[name] = fault;
  else values[name] = value;
}

/** Checks the fields of a request and makes an email of them. */
export function checkSubmission({ values, faults }: SubmittedFields, senders: SenderRules): SubmissionResult {
  const given: FieldValues = {};
  let message = "";
  for (const name of textNames) {
    const value = fields[name].isTrimmed ? values[name]?.trim() : values[name];
    if (value && faults[name] === undefined) given[name] = value;
    const fault = faults[name] ?? faultOf(name, given, senders);
    if (fault !== undefined) message += `${message && "; "}${name}: ${fault}`;
  }
  return message === "" ? { ok: true, email: withDefaults(given, senders), given } : { ok: false, message };
}

/** The defaults were checked at startup, and the client could not change them. */
function withDefaults(given: FieldValues, { defaultFrom, defaultFromName }: SenderRules): Email {
  const email = { from: defaultFrom, ...given } as Email;
  const hasDefaultName =
    defaultFromName !== undefined && defaultFrom !== undefined && sameAddress(email.from, defaultFrom);
  return hasDefaultName ? { from_name: defaultFromName, ...email } : email;
}

/** @param given the fields so far: those of a display name include its address */
function faultOf(name: TextName, given: FieldValues, senders: SenderRules): string | undefined {
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
  const address =
    field.nameOf && (given[field.nameOf] ?? (field.nameOf === "from" ? defaultFrom : undefined));
  const isTooLong = address !== undefined && formatMailbox(address, value).length > mailboxMax;
  return isTooLong ? `with its address is over ${mailboxMax} characters` : undefined;
}

/**
 * Identifies an email under its idempotency key: SHA-256, in base64url, of the fields as submitted. Depends neither on
 * the encoding of the body nor on the settings.
 */
export function fingerprint(given: Readonly<FieldValues>): string {
  const canonical = JSON.stringify(pickFields(given, fieldNames));
  return new Bun.CryptoHasher("sha256").update(canonical).digest("base64url");
}
