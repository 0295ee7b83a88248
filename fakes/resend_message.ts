// The messages that Resend accepts, and its error messages for the others.

import { parseMailbox } from "./address_rules.ts";
import {
  type Attachment,
  contradicts,
  extensionOf,
  readAttachment,
  refusedByResend,
} from "./attachment_rules.ts";
import type { Message } from "./ledger.ts";
import type { Violation } from "./schema.ts";

/** Why Resend refuses a message. */
export interface Refusal {
  readonly status: 403 | 422;
  readonly name: string;
  readonly message: string;
}

export function isRefusal<T extends object>(value: T | Refusal | undefined): value is Refusal {
  return value !== undefined && "status" in value;
}

/** A message as the API describes it. */
interface Item {
  readonly from: string;
  readonly to: string | string[];
  readonly cc?: string | string[];
  readonly bcc?: string | string[];
  readonly reply_to?: string | string[];
  readonly subject: string;
  readonly text?: string;
  readonly html?: string;
  readonly headers?: Record<string, string>;
  readonly scheduled_at?: string;
  readonly tags?: readonly { readonly name: string; readonly value: string }[];
  readonly attachments?: readonly FileItem[];
}

interface FileItem {
  readonly filename?: string;
  readonly content?: string;
  readonly content_type?: string;
  readonly content_id?: string;
}

const bytesMax = 40_000_000;
const addressFields = ["from", "to", "cc", "bcc", "reply_to"] as const;

/**
 * A message, or Resend's refusal of it.
 * @param violations of the API's description by the item
 * @param options.inBatch whether it came in a batch, where attachments are ignored
 */
export function readMessage(
  item: unknown,
  violations: readonly Violation[],
  options: { readonly inBatch: boolean },
): Message | Refusal {
  const [broken] = violations.filter(({ kind }) => kind !== "unknown");
  if (broken) return invalid(complaintAbout(broken));
  const email = item as Item;
  for (const name of ["from", "to", "subject"] as const)
    if (!email[name]) return invalid(`Missing \`${name}\` field.`);
  if (!email.text && !email.html) return invalid("Missing `html` or `text` field.");
  const wrong = addressFields.find((name) => !listOf(email[name]).every(parseMailbox));
  if (wrong) return invalid(invalidAddress(wrong));
  const files = options.inBatch ? undefined : email.attachments;
  if (sizeOf(email, files) > bytesMax) return invalid("The email must not be larger than 40MB.");
  const attachments = files && readFiles(files);
  if (isRefusal(attachments)) return attachments;
  return {
    from: email.from,
    to: listOf(email.to).join(", "),
    cc: listOf(email.cc).join(", ") || undefined,
    bcc: listOf(email.bcc).join(", ") || undefined,
    replyTo: listOf(email.reply_to).join(", ") || undefined,
    subject: email.subject,
    text: email.text,
    html: email.html,
    headers: email.headers,
    attachments,
    droppedAttachments: options.inBatch ? email.attachments?.length : undefined,
    unsent: files?.map(reasonNotToSend).find((reason) => reason !== undefined),
    scheduledAt: email.scheduled_at,
    labels: Object.fromEntries((email.tags ?? []).map(({ name, value }) => [name, value])),
  };
}

function invalid(message: string, name = "validation_error"): Refusal {
  return { status: 422, name, message };
}

function complaintAbout({ at, kind }: Violation): string {
  const [field = ""] = at.split(/[.[]/);
  if (field === "") return "The email must be an object.";
  if (kind === "missing" && at === field) return `Missing \`${field}\` field.`;
  if (field === "tags") return "Tags should only contain ASCII letters, numbers, underscores, or dashes.";
  if (addressFields.some((name) => name === field)) return invalidAddress(field);
  return `Invalid \`${field}\` field.`;
}

function invalidAddress(field: string): string {
  return `Invalid \`${field}\` field. The email address needs to follow the \`email@example.com\` or \`Name <email@example.com>\` format.`;
}

/** One mailbox or an array of them; several in one string are refused. */
function listOf(value: string | readonly string[] | undefined): readonly string[] {
  if (value === undefined) return [];
  return typeof value === "string" ? [value] : value;
}

function sizeOf({ text = "", html = "" }: Item, files: readonly FileItem[] = []): number {
  const base64 = files.reduce((sum, { content = "" }) => sum + content.length, 0);
  return Buffer.byteLength(text) + Buffer.byteLength(html) + base64;
}

/** The records of the files, or the refusal of one. */
function readFiles(files: readonly FileItem[]): Attachment[] | Refusal {
  const attachments: Attachment[] = [];
  for (const { filename = "", content, content_type: type, content_id: contentId } of files) {
    if (content === undefined)
      return invalid("Attachment must have either a `content` or `path`.", "invalid_attachment");
    if (content === "") return invalid("The attachment content is empty.", "invalid_attachment");
    if (refusedByResend.has(extensionOf(filename)))
      return invalid(`The attachment type of ${filename} is not supported.`, "invalid_attachment");
    const attachment = readAttachment({ name: filename, type, contentId, content });
    if (!attachment) return invalid("The attachment content is not base64.", "invalid_attachment");
    attachments.push(attachment);
  }
  return attachments;
}

/** The reason why Resend accepts an email with this file and then never sends it, if there is one. */
function reasonNotToSend({ filename = "", content_type: type }: FileItem): string | undefined {
  if (filename === "") return "an attachment has no name";
  return type !== undefined && contradicts(filename, type) ? `${filename} is not of type ${type}` : undefined;
}
