// The messages that Resend accepts, and its error messages for the others.

import { parseMailbox } from "./address_rules.ts";
import type { Message } from "./ledger.ts";

/** A message, or Resend's refusal of it. */
export function readMessage(item: unknown): Message | string {
  if (typeof item !== "object" || item === null) return "The email must be an object.";
  const fields = item as Record<string, unknown>;
  for (const name of ["from", "to", "subject"]) if (!fields[name]) return `Missing \`${name}\` field.`;
  const { from, subject, text, html } = fields;
  if (typeof subject !== "string") return "Invalid `subject` field. The subject must be a string.";
  for (const [name, value] of Object.entries({ text, html })) {
    if (value !== undefined && typeof value !== "string")
      return `Invalid \`${name}\` field. It must be a string.`;
  }
  if (!text && !html) return "Missing `html` or `text` field.";
  const to = mailboxes(fields["to"]);
  const replyTo = mailboxes(fields["reply_to"] ?? []);
  if (typeof from !== "string" || !parseMailbox(from)) return invalidAddress("from");
  if (!to || to.length < 1 || to.length > 50) return invalidAddress("to");
  if (!replyTo) return invalidAddress("reply_to");
  const labels = readTags(fields["tags"] ?? []);
  if (!labels) return "Tags should only contain ASCII letters, numbers, underscores, or dashes.";
  return {
    from,
    to: to.join(", "),
    ...(replyTo.length > 0 && { replyTo: replyTo.join(", ") }),
    subject,
    ...(typeof text === "string" && { text }),
    ...(typeof html === "string" && { html }),
    labels,
  };
}

function invalidAddress(field: string): string {
  return `Invalid \`${field}\` field. The email address needs to follow the \`email@example.com\` or \`Name <email@example.com>\` format.`;
}

/** One mailbox or an array of them; several in one string are refused. */
function mailboxes(value: unknown): string[] | undefined {
  const list = Array.isArray(value) ? value : [value];
  return list.every((one) => typeof one === "string" && parseMailbox(one)) ? (list as string[]) : undefined;
}

function readTags(value: unknown): Record<string, string> | undefined {
  if (!Array.isArray(value)) return undefined;
  const labels: Record<string, string> = {};
  for (const tag of value) {
    const { name, value: text } = (tag ?? {}) as Record<string, unknown>;
    if (typeof name !== "string" || typeof text !== "string") return undefined;
    if (!/^[\w-]{1,256}$/.test(name) || !/^[\w-]{1,256}$/.test(text)) return undefined;
    labels[name] = text;
  }
  return labels;
}
