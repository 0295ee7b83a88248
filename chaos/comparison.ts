// Whether an email arrived as it was submitted: every field, and every byte of every file. Pure.

import { parseMailbox } from "../fakes/address_rules.ts";
import type { Acceptance, Message } from "../fakes/ledger.ts";
import { defaultFrom, type Email, type Pair } from "./emails.ts";
import type { Provider } from "./scenario.ts";

/** An accepted email, by a provider or in the sandbox's outbox. */
export interface Arrival extends Message, Pick<Acceptance, "atMs" | "emailId"> {
  readonly provider: Provider | "sandbox";
}

/** The fields that differ from the submission, and the faults that a provider hides. */
export function findDifferences(email: Email, arrival: Arrival): string[] {
  const arrived = fieldsOf(arrival);
  const expected = expectedFields(email, arrival.provider);
  const { unsent, droppedAttachments = 0, scheduledAt } = arrival;
  return [
    ...Object.keys(arrived).filter((name) => arrived[name] !== expected[name]),
    ...(unsent === undefined ? [] : [`never sent: ${unsent}`]),
    ...(droppedAttachments === 0 ? [] : [`${droppedAttachments} files dropped in a batch`]),
    ...(scheduledAt === undefined ? [] : ["send_at was passed on"]),
  ];
}

/** The names of fields, each with a value as text; undefined if the email has none. */
type Comparable = Readonly<Record<string, string | undefined>>;

/** Labels that the service itself adds. */
const ownLabels = ["email_id", "batch_id"];

function fieldsOf(arrival: Arrival): Comparable {
  const { subject, text, html, replyTo, cc, bcc, headers = {}, labels, attachments = [] } = arrival;
  const [from, to] = [parseMailbox(arrival.from), parseMailbox(arrival.to)];
  const tags = Object.entries(labels).filter(([name]) => !ownLabels.includes(name));
  return {
    subject,
    body: text,
    html,
    to: to?.address,
    to_name: to?.name,
    from: from?.address,
    from_name: from?.name,
    reply_to: replyTo,
    cc,
    bcc,
    headers: textOf(Object.entries(headers)),
    tags: textOf(tags),
    tag: arrival.tag,
    attachments: filesText(
      attachments.map(({ name, type, contentId, bytes, sha256 }) => [name, type, contentId, bytes, sha256]),
      arrival.provider,
    ),
  };
}

function expectedFields(email: Email, provider: Arrival["provider"]): Comparable {
  const { texts, cc, bcc, headers, tags, files } = email;
  const isFile = provider === "sandbox";
  return {
    from: defaultFrom,
    ...texts,
    ...(isFile && { body: withoutLastLineEnds(texts["body"]!) }),
    cc: cc.join(", ") || undefined,
    // A recipient must not see them.
    bcc: (!isFile && bcc.join(", ")) || undefined,
    headers: textOf(headers),
    tags: textOf(tags),
    tag: provider === "postmark" ? tags.find(([name]) => name === "tag")?.[1] : undefined,
    attachments: filesText(
      files.map(({ filename, type, contentId, content }) => [
        filename,
        type,
        contentId,
        content.byteLength,
        digestOf(content),
      ]),
      provider,
    ),
  };
}

/** The text with LF as its line ends, and none at the end, where a parser may add one. */
export function withoutLastLineEnds(text: string): string {
  return text.replaceAll("\r\n", "\n").replace(/\n+$/, "");
}

/** Sorted at the sandbox, which writes inline images next to the HTML and the other files after it. */
function filesText(files: readonly (readonly unknown[])[], provider: Arrival["provider"]): string {
  const texts = files.map((file) => JSON.stringify(file));
  return (provider === "sandbox" ? texts.toSorted() : texts).join("\n");
}

/** Their order has no meaning. */
function textOf(pairs: readonly Pair[]): string {
  return JSON.stringify(pairs.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function digestOf(bytes: Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
}
