// The messages that Postmark accepts, and its error codes for the others.

import { domainOf, parseMailbox, splitMailboxes } from "./address_rules.ts";
import { type Attachment, extensionOf, readAttachment, refusedByPostmark } from "./attachment_rules.ts";
import type { Message } from "./ledger.ts";
import type { PostmarkSettings } from "./postmark.ts";
import type { Violation } from "./schema.ts";

export interface Refusal {
  readonly code: number;
  readonly text: string;
}

const bodyMax = 5_000_000;
const bytesMax = 10_000_000;
const recipientsMax = 50;

/** A message as the API describes it. */
interface Item {
  readonly From: string;
  readonly To: string;
  readonly Cc?: string;
  readonly Bcc?: string;
  readonly ReplyTo?: string;
  readonly Subject?: string;
  readonly TextBody?: string;
  readonly HtmlBody?: string;
  readonly Tag?: string;
  readonly MessageStream?: string;
  readonly Metadata?: Record<string, string>;
  readonly Headers?: readonly { readonly Name: string; readonly Value: string }[];
  readonly Attachments?: readonly FileItem[];
}

interface FileItem {
  readonly Name: string;
  readonly Content: string;
  readonly ContentType: string;
  readonly ContentID?: string | null;
}

export function isRefusal<T extends object>(value: T | Refusal | undefined): value is Refusal {
  return value !== undefined && "code" in value;
}

/**
 * A message, or why Postmark refuses it.
 * @param violations of the API's description by the item
 */
export function readMessage(
  item: unknown,
  violations: readonly Violation[],
  settings: PostmarkSettings,
): Message | Refusal {
  const [broken] = violations;
  if (broken) return refusalOf(broken);
  const email = item as Item;
  const { MessageStream: stream = "outbound", Attachments: files } = email;
  const addresses = readAddresses(email);
  if (isRefusal(addresses)) return addresses;
  const attachments = checkContent(email) ?? (files && readFiles(files));
  if (isRefusal(attachments)) return attachments;
  const inactive = addresses.recipients.filter((address) => settings.inactive.includes(address));
  const refused = refusalBySettings({ ...addresses, stream, inactive }, settings);
  if (refused) return refused;
  return {
    from: email.From,
    to: splitMailboxes(email.To).join(", "),
    cc: splitMailboxes(email.Cc ?? "").join(", ") || undefined,
    bcc: splitMailboxes(email.Bcc ?? "").join(", ") || undefined,
    replyTo: splitMailboxes(email.ReplyTo ?? "").join(", ") || undefined,
    subject: email.Subject ?? "",
    text: email.TextBody,
    html: email.HtmlBody,
    headers: email.Headers && Object.fromEntries(email.Headers.map(({ Name, Value }) => [Name, Value])),
    attachments,
    inactive: inactive.length > 0 ? inactive : undefined,
    labels: email.Metadata ?? {},
    tag: email.Tag || undefined,
    stream,
  };
}

function invalid(text: string): Refusal {
  return { code: 300, text };
}

/** Code 403 for a field of the wrong type or name, 300 for a missing one or an invalid value. */
function refusalOf({ at, kind, text }: Violation): Refusal {
  if (kind === "type" || kind === "unknown") return { code: 403, text: `Invalid request field(s): '${at}'.` };
  return invalid(`Invalid '${at}': ${text}.`);
}

interface Addresses {
  readonly from: string;
  /** In lower case, as Postmark names them. */
  readonly recipients: readonly string[];
}

function readAddresses(email: Item): Addresses | Refusal {
  const recipients: string[] = [];
  let from = "";
  for (const name of ["From", "To", "Cc", "Bcc", "ReplyTo"] as const) {
    const texts = splitMailboxes(email[name] ?? "");
    const isCountWrong = name === "From" ? texts.length !== 1 : name === "To" && texts.length === 0;
    if (isCountWrong) return invalid(`Invalid '${name}' address: '${email[name]}'.`);
    for (const text of texts) {
      const mailbox = parseMailbox(text);
      if (!mailbox) return invalid(`Error parsing '${name}': Illegal email address '${text}'.`);
      if (name === "From") from = mailbox.address;
      else if (name !== "ReplyTo") recipients.push(mailbox.address.toLowerCase());
    }
  }
  if (recipients.length > recipientsMax)
    return invalid(`Exceeded the maximum of ${recipientsMax} recipients per message.`);
  return { from, recipients };
}

function checkContent(email: Item): Refusal | undefined {
  const { TextBody = "", HtmlBody = "", Metadata = {}, Headers = [], Attachments = [] } = email;
  if (!TextBody && !HtmlBody) return invalid("Provide either email TextBody or HtmlBody or both.");
  const bodies = [Buffer.byteLength(TextBody), Buffer.byteLength(HtmlBody)];
  if (Math.max(...bodies) > bodyMax) return invalid("A body is larger than 5 MB.");
  const sizes = [...bodies, ...Attachments.map(({ Content }) => Content.length)];
  if (sizes.reduce((sum, size) => sum + size) > bytesMax) return invalid("The message is larger than 10 MB.");
  if (hasTwice(Object.keys(Metadata))) return invalid("A metadata key is there twice.");
  if (hasTwice(Headers.map(({ Name }) => Name))) return invalid("A header is there twice.");
  return undefined;
}

/** Whether a name occurs twice, in any case. */
function hasTwice(names: readonly string[]): boolean {
  return new Set(names.map((name) => name.toLowerCase())).size < names.length;
}

/** The records of the files, or the refusal of one. */
function readFiles(files: readonly FileItem[]): Attachment[] | Refusal {
  const attachments: Attachment[] = [];
  for (const { Name: name, Content: content, ContentType: type, ContentID } of files) {
    if (refusedByPostmark.has(extensionOf(name)))
      return { code: 411, text: "Attachment file type not allowed." };
    const attachment = readAttachment({ name, type, content, contentId: ContentID?.slice("cid:".length) });
    if (!attachment?.bytes) return invalid(`The content of '${name}' is empty, or not base64.`);
    attachments.push(attachment);
  }
  return attachments;
}

interface Sending extends Addresses {
  readonly stream: string;
  /** Those recipients that are suppressed. */
  readonly inactive: readonly string[];
}

/** Why the server or the account refuses a valid message, if it does. */
function refusalBySettings(sending: Sending, settings: PostmarkSettings): Refusal | undefined {
  const { from, stream, recipients, inactive } = sending;
  if (!settings.streams.includes(stream))
    return { code: 1235, text: "The MessageStream provided does not exist." };
  if (settings.unverifiedDomains.includes(domainOf(from))) {
    return {
      code: 400,
      text: `The 'From' address you supplied (${from}) is not a Sender Signature on your account. Please add and confirm this address in order to be able to use it in the 'From' field of your messages.`,
    };
  }
  const { pendingDomain } = settings;
  if (pendingDomain !== null && recipients.some((address) => domainOf(address) !== pendingDomain)) {
    return {
      code: 412,
      text: "While your account is pending approval, all recipient addresses must share the same domain as the 'From' address.",
    };
  }
  if (inactive.length === recipients.length)
    return { code: 406, text: textOfInactive(inactive, { all: true }) };
  return undefined;
}

/** Postmark's text about inactive recipients, whether they are all the recipients or only some. */
export function textOfInactive(addresses: readonly string[], { all }: { readonly all: boolean }): string {
  const start = all
    ? "You tried to send to a recipient that has been marked as inactive. Found inactive addresses"
    : "Message OK, but will not deliver to these inactive addresses";
  return `${start}: ${addresses.join(", ")}. Inactive recipients are ones that have generated a hard bounce, a spam complaint, or a manual suppression.`;
}
