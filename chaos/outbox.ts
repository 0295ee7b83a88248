// The emails that the sandbox has delivered, read from its files by an independent parser.

import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import PostalMime, { type Address, type Email as Parsed } from "postal-mime";
import { type Arrival, withoutLastLineEnds } from "./comparison.ts";

/** Headers that every email has, or that are compared as fields. */
const ownHeaders =
  /^(from|to|cc|bcc|reply-to|subject|date|message-id|mime-version|content-.*|x-reliable-email-.*)$/i;

/** One for each tag: `name=value`. */
const tagHeader = "x-reliable-email-tag";
const tagIn = (value: string) => value.split("=", 2) as [string, string];

/** Empty if there is no such folder. */
export async function* readOutbox(folder: string): AsyncGenerator<Arrival> {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder).filter((one) => one.endsWith(".eml"))) {
    const path = join(folder, name);
    yield arrivalOf(await PostalMime.parse(readFileSync(path)), name, statSync(path).mtimeMs);
  }
}

function arrivalOf(email: Parsed, name: string, atMs: number): Arrival {
  const { from, to, cc, bcc, replyTo, subject = "", text, html, headers, attachments } = email;
  return {
    provider: "sandbox",
    emailId: name.slice(0, name.indexOf(".")),
    atMs: Math.ceil(atMs),
    from: listOf(from && [from]) ?? "",
    to: listOf(to) ?? "",
    cc: listOf(cc),
    bcc: listOf(bcc),
    replyTo: listOf(replyTo),
    subject,
    text: text && withoutLastLineEnds(text),
    html: html && withoutLastLineEnds(html),
    headers: Object.fromEntries(
      headers.flatMap(({ originalKey, value }) =>
        ownHeaders.test(originalKey) ? [] : [[originalKey, value]],
      ),
    ),
    labels: Object.fromEntries(
      headers.flatMap(({ key, value }) => (key === tagHeader ? [tagIn(value)] : [])),
    ),
    attachments: attachments.map(({ filename, mimeType, contentId, content }) => {
      const bytes = typeof content === "string" ? Buffer.from(content) : new Uint8Array(content);
      return {
        name: filename ?? "",
        type: mimeType,
        ...(contentId !== undefined && { contentId: contentId.replace(/^<|>$/g, "") }),
        bytes: bytes.byteLength,
        sha256: new Bun.CryptoHasher("sha256").update(bytes).digest("hex"),
      };
    }),
  };
}

function listOf(addresses: readonly Address[] | undefined): string | undefined {
  return addresses
    ?.map(({ address, name }) => (name ? `${JSON.stringify(name)} <${address}>` : address))
    .join(", ");
}
