// What Postmark takes for a message, and the codes under which it refuses the rest.

import { domainOf, parseMailbox } from "./address_rules.ts";
import type { PostmarkSettings } from "./postmark.ts";

export interface Message {
  from: string;
  to: string;
  replyTo?: string;
  subject: string;
  text?: string;
  html?: string;
  labels: Record<string, string>;
  stream: string;
}

/** An error code and its text. */
export interface Refusal {
  code: number;
  text: string;
}

const bodyMax = 5 * 1024 * 1024;

export function isRefusal(value: Message | Refusal): value is Refusal {
  return "code" in value;
}

/** A message, or why Postmark would not take it. */
export function readMessage(item: unknown, settings: PostmarkSettings): Message | Refusal {
  const invalid = (text: string): Refusal => ({ code: 300, text });
  if (typeof item !== "object" || item === null) return invalid("The message must be an object.");
  const {
    From,
    To,
    ReplyTo,
    Subject,
    TextBody,
    HtmlBody,
    MessageStream = "outbound",
    Metadata = {},
  } = item as Record<string, unknown>;
  for (const [name, value] of Object.entries({
    From,
    To,
    ReplyTo,
    Subject,
    TextBody,
    HtmlBody,
    MessageStream,
  })) {
    if (value !== undefined && typeof value !== "string")
      return { code: 403, text: `Invalid value for '${name}'.` };
  }
  const texts = { From, To, ReplyTo, Subject, TextBody, HtmlBody } as Record<string, string | undefined>;
  const from = parseMailbox(texts["From"] ?? "");
  const to = parseMailbox(texts["To"] ?? "");
  if (!from) return invalid(`Error parsing 'From': Illegal email address '${texts["From"]}'.`);
  if (!to) return invalid(`Error parsing 'To': Illegal email address '${texts["To"]}'.`);
  if (texts["ReplyTo"] !== undefined && !parseMailbox(texts["ReplyTo"]))
    return invalid("Error parsing 'ReplyTo'.");
  if ((texts["From"] ?? "").length > 255) return invalid("'From' is longer than 255 characters.");
  if ((texts["Subject"] ?? "").length > 2000) return invalid("'Subject' is longer than 2000 characters.");
  if (!TextBody && !HtmlBody) return invalid("Provide either email TextBody or HtmlBody or both.");
  for (const body of [texts["TextBody"], texts["HtmlBody"]]) {
    if (body !== undefined && Buffer.byteLength(body) > bodyMax)
      return invalid("A body is larger than 5 MB.");
  }
  const wrongMetadata = checkMetadata(Metadata);
  if (wrongMetadata) return invalid(wrongMetadata);

  const stream = MessageStream as string;
  if (!settings.streams.includes(stream))
    return { code: 1235, text: "The MessageStream provided does not exist." };
  const fromDomain = domainOf(from.address);
  if (settings.unverifiedDomains.includes(fromDomain)) {
    return {
      code: 400,
      text: `The 'From' address you supplied (${from.address}) is not a Sender Signature on your account. Please add and confirm this address in order to be able to use it in the 'From' field of your messages.`,
    };
  }
  if (settings.pendingDomain !== null && domainOf(to.address) !== settings.pendingDomain) {
    return {
      code: 412,
      text: "While your account is pending approval, all recipient addresses must share the same domain as the 'From' address.",
    };
  }
  if (settings.inactive.includes(to.address.toLowerCase())) {
    return {
      code: 406,
      text: `You tried to send to a recipient that has been marked as inactive. Found inactive addresses: ${to.address}. Inactive recipients are ones that have generated a hard bounce, a spam complaint, or a manual suppression.`,
    };
  }
  return {
    from: texts["From"] as string,
    to: texts["To"] as string,
    ...(texts["ReplyTo"] !== undefined && { replyTo: texts["ReplyTo"] }),
    subject: texts["Subject"] ?? "",
    ...(texts["TextBody"] !== undefined && { text: texts["TextBody"] }),
    ...(texts["HtmlBody"] !== undefined && { html: texts["HtmlBody"] }),
    labels: Metadata as Record<string, string>,
    stream,
  };
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
