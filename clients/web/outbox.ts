// The sandbox's outbox: lists, searches and reads the files of delivered emails. A file never changes, so its
// summary is cached.

import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type PostalMime from "postal-mime";
import type { Address, Email } from "postal-mime";
import { errorCode } from "../../lib/runtime/errors.ts";
import type { DeliveredEmail, DeliveredList, DeliveredRow } from "./protocol.ts";

/** Emails that a search covers, from the newest, and most that a list shows. */
const searchedMax = 1000;
const listedMax = 100;
/** UTF-16 units. */
const previewMax = 160;
/** Longest part of the source and of a text that is shown, UTF-16 units. */
const shownMax = 500_000;
/** Most paths of HTML that are valid at a time; the oldest expires first. */
const framesMax = 100;

/** `<email id>.<batch id>.eml`, both UUIDs. */
const namePattern = /^[\da-f-]{36}\.[\da-f-]{36}\.eml$/;

export class Outbox {
  readonly #folder: string;
  readonly #rows = new Map<string, { readonly row: DeliveredRow; readonly haystack: string }>();
  /** Maps the unguessable path of an email's HTML to the name of its file. */
  readonly #frames = new Map<string, string>();

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
      ...(parsed.html !== undefined && {
        htmlPath: this.#frameFor(name),
        htmlSource: parsed.html.slice(0, shownMax),
      }),
      attachments: parsed.attachments.map(({ filename, mimeType, content }) => ({
        name: filename ?? "without a name",
        type: mimeType,
        bytes: typeof content === "string" ? content.length : content.byteLength,
      })),
      source: source.slice(0, shownMax),
    };
  }

  /** Returns the HTML at a path that {@link read} returned, or undefined for any other path. */
  async html(path: string): Promise<string | undefined> {
    const name = this.#frames.get(path);
    const file = name === undefined ? undefined : await this.#open(name);
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
    const { subject, from, to } = row;
    const haystack = [row.id, subject, from, to, file.parsed.text ?? ""].join("\n").toLowerCase();
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

  #frameFor(name: string): string {
    const path = `/mail/${Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString("base64url")}`;
    const [oldest] = this.#frames.keys();
    if (this.#frames.size >= framesMax && oldest !== undefined) this.#frames.delete(oldest);
    this.#frames.set(path, name);
    return path;
  }
}

interface OpenedFile {
  readonly parsed: Email;
  readonly source: string;
  readonly deliveredAt: string;
}

function rowOf(name: string, { parsed, deliveredAt }: OpenedFile): DeliveredRow {
  const { subject = "", text = "" } = parsed;
  return {
    name,
    id: name.slice(0, name.indexOf(".")),
    subject,
    from: parsed.from === undefined ? "" : mailboxOf(parsed.from),
    to: (parsed.to ?? []).map(mailboxOf).join(", "),
    preview: text.replace(/\s+/g, " ").trim().slice(0, previewMax),
    deliveredAt,
  };
}

function mailboxOf({ name, address = "" }: Address): string {
  return name ? `${name} <${address}>` : address;
}

/**
 * Makes links open in a new tab, removes links that are not to the web, mail or a phone, and inlines attached images.
 * Security does not depend on this: the policy and the frame's sandbox block everything else.
 */
function inert(html: string, attachments: Email["attachments"]): string {
  const images = new Map(attachments.map((one) => [one.contentId?.replace(/^<|>$/g, ""), one]));
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
        if (found === undefined || typeof found.content === "string") return;
        const data = Buffer.from(found.content as ArrayBuffer).toString("base64");
        image.setAttribute("src", `data:${found.mimeType};base64,${data}`);
      },
    });
  return rewriter.transform(html);
}
