// The sandbox's outbox: lists, searches and reads the files of delivered emails. A file never changes, so its
// summary is cached.

import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type PostalMime from "postal-mime";
import type { Address, Attachment, Email } from "postal-mime";
import { errorCode } from "../../lib/runtime/errors.ts";
import type { DeliveredEmail, DeliveredList, DeliveredRow } from "./protocol.ts";

/** Emails that a search covers, from the newest, and most that a list shows. */
const searchedMax = 1000;
const listedMax = 100;
/** UTF-16 units. */
const previewMax = 160;
/** Longest part of the source and of a text that is shown, UTF-16 units. */
const shownMax = 500_000;

/** `<email id>.<batch id>.eml`, both UUIDs. */
const namePattern = /^[\da-f-]{36}\.[\da-f-]{36}\.eml$/;

export class Outbox {
  readonly #folder: string;
  readonly #rows = new Map<string, { readonly row: DeliveredRow; readonly haystack: string }>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The newest emails that have every word of `search` in their addresses, subject or text. */
  async list(search = ""): Promise<DeliveredList> {
    const names = await this.#names();
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    const emails: DeliveredRow[] = [];
    let searched = 0;
    for (const name of names.slice(0, searchedMax)) {
      searched += 1;
      const entry = await this.#entry(name);
      if (entry !== undefined && words.every((word) => entry.haystack.includes(word))) emails.push(entry.row);
      if (emails.length === listedMax) break;
    }
    return { emails, total: names.length, searched };
  }

  /** Undefined if there is no such file. */
  async read(name: string): Promise<DeliveredEmail | undefined> {
    const file = await this.#open(name);
    if (file === undefined) return undefined;
    const { parsed, source } = file;
    return {
      ...rowOf(name, file),
      headers: parsed.headers.map(({ key, originalKey, value }) => ({ name: originalKey || key, value })),
      text: (parsed.text ?? "").slice(0, shownMax),
      ...(parsed.html !== undefined && { htmlSource: parsed.html.slice(0, shownMax) }),
      attachments: parsed.attachments.map((one) => ({
        name: one.filename ?? "without a name",
        type: one.mimeType,
        bytes: bytesOf(one).byteLength,
        contentId: contentIdOf(one),
      })),
      source: source.slice(0, shownMax),
    };
  }

  /** The content of an attached file; undefined if there is no such file. @param number from 1 */
  async attachment(name: string, number: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const attachment = (await this.#open(name))?.parsed.attachments[number - 1];
    return attachment && bytesOf(attachment);
  }

  /** The HTML as a frame may show it, undefined if there is none. */
  async html(name: string): Promise<string | undefined> {
    const file = await this.#open(name);
    return file?.parsed.html === undefined ? undefined : inert(file.parsed.html, file.parsed.attachments);
  }

  /** Returns the names of all emails' files from the newest: an id begins with its time. */
  async #names(): Promise<string[]> {
    try {
      const names = await readdir(this.#folder);
      return names
        .filter((name) => namePattern.test(name))
        .toSorted()
        .toReversed();
    } catch (error) {
      if (errorCode(error) === "ENOENT") return [];
      throw error;
    }
  }

  async #entry(name: string) {
    const known = this.#rows.get(name);
    if (known !== undefined) return known;
    const file = await this.#open(name);
    if (file === undefined) return undefined;
    const row = rowOf(name, file);
    const { subject, from, to, cc } = row;
    const haystack = [row.id, subject, from, to, cc, file.parsed.text ?? ""].join("\n").toLowerCase();
    const entry = { row, haystack: haystack.slice(0, shownMax) };
    // An entry that is dropped here is read again when needed.
    if (this.#rows.size >= 2 * searchedMax) this.#rows.clear();
    this.#rows.set(name, entry);
    return entry;
  }

  async #open(name: string): Promise<OpenedFile | undefined> {
    if (!namePattern.test(name)) return undefined;
    try {
      const path = join(this.#folder, name);
      const [bytes, { mtime }] = await Promise.all([readFile(path), stat(path)]);
      // Loaded on demand to keep the start fast.
      const { default: parser }: { default: typeof PostalMime } = await import("postal-mime");
      const parsed = await parser.parse(bytes);
      return { parsed, source: bytes.toString("utf8"), deliveredAt: mtime.toISOString() };
    } catch (error) {
      if (errorCode(error) === "ENOENT") return undefined;
      throw error;
    }
  }
}

interface OpenedFile {
  readonly parsed: Email;
  readonly source: string;
  readonly deliveredAt: string;
}

function rowOf(name: string, { parsed, deliveredAt }: OpenedFile): DeliveredRow {
  const { subject = "", text = "", from, to, cc } = parsed;
  return {
    name,
    id: name.slice(0, name.indexOf(".")),
    subject,
    from: mailboxesOf(from && [from]),
    to: mailboxesOf(to),
    cc: mailboxesOf(cc),
    preview: text.replace(/\s+/g, " ").trim().slice(0, previewMax),
    deliveredAt,
  };
}

function mailboxesOf(addresses: readonly Address[] = []): string {
  return addresses.map(({ name, address = "" }) => (name ? `${name} <${address}>` : address)).join(", ");
}

function bytesOf({ content }: Attachment): Uint8Array<ArrayBuffer> {
  return typeof content === "string" ? new TextEncoder().encode(content) : new Uint8Array(content);
}

function contentIdOf({ contentId }: Attachment): string | undefined {
  return contentId?.replace(/^<|>$/g, "");
}

/**
 * Makes links open in a new tab, removes links that are not to the web, mail or a phone, and inlines attached images.
 * Security does not depend on this: the policy and the frame's sandbox block everything else.
 */
function inert(html: string, attachments: Email["attachments"]): string {
  const images = new Map(attachments.map((one) => [contentIdOf(one), one]));
  const rewriter = new HTMLRewriter()
    .on("a, area", {
      element(link) {
        const isHarmless = /^\s*(https?:|mailto:|tel:)/i.test(link.getAttribute("href") ?? "");
        if (!isHarmless) link.removeAttribute("href");
        link.setAttribute("target", "_blank");
        link.setAttribute("rel", "noopener noreferrer");
      },
    })
    .on('img[src^="cid:"]', {
      element(image) {
        const id = image.getAttribute("src")!.slice("cid:".length);
        const found = images.get(id) ?? images.get(id.replaceAll("%40", "@"));
        if (found === undefined) return;
        image.setAttribute("src", `data:${found.mimeType};base64,${bytesOf(found).toBase64()}`);
      },
    });
  return rewriter.transform(html);
}
