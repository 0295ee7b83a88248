// An email as the body of a request, in each of the three forms that the service reads.

import type { Email } from "./emails.ts";
import type { AttachedFile } from "./files.ts";

export interface RequestBody {
  readonly contentType: string;
  readonly bytes: string | Uint8Array;
}

type Form = "json" | "urlencoded" | "multipart";

/** Only JSON and multipart forms can carry files. */
export function formsFor({ files }: Email): readonly Form[] {
  return files.length > 0 ? ["json", "multipart"] : ["json", "urlencoded", "multipart"];
}

/** @param sendAtMs when it is to be sent, Unix ms; default: immediately */
export function encodeBody(email: Email, form: Form, sendAtMs?: number): RequestBody {
  switch (form) {
    case "json":
      return { contentType: "application/json", bytes: JSON.stringify(jsonOf(email, sendAtMs)) };
    case "urlencoded": {
      const fields = new URLSearchParams(formFields(email, sendAtMs) as [string, string][]);
      return { contentType: "application/x-www-form-urlencoded", bytes: fields.toString() };
    }
    case "multipart":
      return multipartOf(email, sendAtMs);
  }
}

function jsonOf({ texts, cc, bcc, headers, tags, files }: Email, sendAtMs: number | undefined): object {
  return {
    ...texts,
    // A single address needs no array.
    ...(cc.length > 0 && { cc: cc.length === 1 ? cc[0] : cc }),
    ...(bcc.length > 0 && { bcc }),
    ...(headers.length > 0 && { headers: Object.fromEntries(headers) }),
    ...(tags.length > 0 && { tags: Object.fromEntries(tags) }),
    ...(files.length > 0 && { attachments: files.map(jsonFile) }),
    ...(sendAtMs !== undefined && { send_at: new Date(sendAtMs).toISOString() }),
  };
}

function jsonFile({ filename, content, type, declaresType, contentId }: AttachedFile): object {
  return {
    filename,
    content: Buffer.from(content.buffer, content.byteOffset, content.byteLength).toString("base64"),
    ...(declaresType && { content_type: type }),
    ...(contentId !== undefined && { content_id: contentId }),
  };
}

/** The fields of a form, but not the files. */
function formFields(email: Email, sendAtMs: number | undefined): (readonly [string, string])[] {
  const { texts, cc, bcc, headers, tags } = email;
  return [
    ...Object.entries(texts),
    ...cc.map((address) => ["cc", address] as const),
    ...bcc.map((address, index) => [`bcc[${index}]`, address] as const),
    ...headers.map(([name, value]) => [`headers[${name}]`, value] as const),
    ...tags.map(([name, value]) => [`tags[${name}]`, value] as const),
    ...(sendAtMs === undefined ? [] : [["send_at", withOffset(sendAtMs)] as const]),
  ];
}

/** The same instant with the offset +02:00. */
function withOffset(ms: number): string {
  return new Date(ms + 2 * 3_600_000).toISOString().replace("Z", "+02:00");
}

/** Not by FormData, which writes a quote in a name as `%22`, which is another name. */
function multipartOf(email: Email, sendAtMs: number | undefined): RequestBody {
  const boundary = "----chaos-7MA4YWxkTrZu0gW";
  const part = (disposition: string, type?: string) =>
    `--${boundary}\r\nContent-Disposition: form-data; ${disposition}\r\n${type === undefined ? "" : `Content-Type: ${type}\r\n`}\r\n`;
  const chunks: (string | Uint8Array)[] = [];
  for (const [name, value] of formFields(email, sendAtMs)) chunks.push(part(`name="${name}"`), value, "\r\n");
  for (const { filename, content, type, declaresType, contentId } of email.files) {
    const field = contentId === undefined ? "attachment" : "inline";
    const quoted = filename.replaceAll('"', '\\"');
    // The type that curl declares for unknown files. A known extension takes precedence over it.
    const declared = declaresType ? type : "application/octet-stream";
    chunks.push(part(`name="${field}"; filename="${quoted}"`, declared), content, "\r\n");
  }
  chunks.push(`--${boundary}--\r\n`);
  return {
    contentType: `multipart/form-data; boundary=${boundary}`,
    bytes: Buffer.concat(chunks.map((chunk) => (typeof chunk === "string" ? Buffer.from(chunk) : chunk))),
  };
}
