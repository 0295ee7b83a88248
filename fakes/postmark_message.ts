// The messages that Postmark accepts, and its error codes for the others.

import { domainOf, parseMailbox } from "./address_rules.ts";
import type { Message } from "./ledger.ts";
import type { PostmarkSettings } from "./postmark.ts";

export interface Refusal {
  code: number;
  text: string;
}

const bodyMax = 5 * 1024 * 1024;

const textFields = ["From", "To", "ReplyTo", "Subject", "TextBody", "HtmlBody", "MessageStream"] as const;

export function isRefusal(value: Message | Refusal): value is Refusal {
  return "code" in value;
}

/** A message, or why Postmark refuses it. */
export function readMessage(item: unknown, settings: PostmarkSettings): Message | Refusal {
  const invalid = (text: string): Refusal => ({ code: 300, text });
  if (typeof item !== "object" || item === null) return invalid("The message must be an object.");
  for (const name of textFields) {
    const value = (item as Record<string, unknown>)[name];
    if (value !== undefined && typeof value !== "string")
      return { code: 403, text: `Invalid value for '${name}'.` };
  }
  const fields = item as Partial<Record<(typeof textFields)[number], string>> & { Metadata?: unknown };
  const { From = "", To = "", ReplyTo, Subject = "", TextBody, HtmlBody, Metadata = {} } = fields;
  const from = parseMailbox(From);
  const to = parseMailbox(To);
  if (!from) return invalid(`Error parsing 'From': Illegal email address '${From}'.`);
  if (!to) return invalid(`Error parsing 'To': Illegal email address '${To}'.`);
  if (ReplyTo !== undefined && !parseMailbox(ReplyTo)) return invalid("Error parsing 'ReplyTo'.");
  if (From.length > 255) return invalid("'From' is longer than 255 characters.");
  if (Subject.length > 2000) return invalid("'Subject' is longer than 2000 characters.");
  if (!TextBody && !HtmlBody) return invalid("Provide either email TextBody or HtmlBody or both.");
  for (const body of [TextBody, HtmlBody]) {
    if (body !== undefined && Buffer.byteLength(body) > bodyMax)
      return invalid("A body is larger than 5 MB.");
  }
  const metadataFault = checkMetadata(Metadata);
  if (metadataFault) return invalid(metadataFault);

  const stream = fields.MessageStream ?? "outbound";
  const refusal = refusalBySettings(from.address, to.address, stream, settings);
  if (refusal) return refusal;
  return {
    from: From,
    to: To,
    ...(ReplyTo !== undefined && { replyTo: ReplyTo }),
    subject: Subject,
    ...(TextBody !== undefined && { text: TextBody }),
    ...(HtmlBody !== undefined && { html: HtmlBody }),
    labels: Metadata as Record<string, string>,
    stream,
  };
}

/** Why the server or the account refuses a valid message, if it does. */
function refusalBySettings(
  from: string,
  to: string,
  stream: string,
  settings: PostmarkSettings,
): Refusal | undefined {
  if (!settings.streams.includes(stream))
    return { code: 1235, text: "The MessageStream provided does not exist." };
  if (settings.unverifiedDomains.includes(domainOf(from))) {
    return {
      code: 400,
      text: `The 'From' address you supplied (${from}) is not a Sender Signature on your account. Please add and confirm this address in order to be able to use it in the 'From' field of your messages.`,
    };
  }
  if (settings.pendingDomain !== null && domainOf(to) !== settings.pendingDomain) {
    return {
      code: 412,
      text: "While your account is pending approval, all recipient addresses must share the same domain as the 'From' address.",
    };
  }
  if (settings.inactive.includes(to.toLowerCase())) {
    return {
      code: 406,
      text: `You tried to send to a recipient that has been marked as inactive. Found inactive addresses: ${to}. Inactive recipients are ones that have generated a hard bounce, a spam complaint, or a manual suppression.`,
    };
  }
  return undefined;
}

function checkMetadata(metadata: unknown): string | undefined {
  if (typeof metadata !== "object" || metadata === null || Array.isArray(metadata))
    return "Metadata must be an object.";
  const entries = Object.entries(metadata);
  if (entries.length > 10) return "Metadata has more than 10 fields.";
  for (const [key, value] of entries) {
    if (key.length > 20) return "A metadata key is longer than 20 characters.";
    if (typeof value !== "string" || value.length > 80)
      return "A metadata value is longer than 80 characters, or no text.";
  }
  if (new Set(entries.map(([key]) => key.toLowerCase())).size < entries.length)
    return "A metadata key is there twice.";
  return undefined;
}
