// The mail headers that a client may set: those for lists, threads and automation, and its own `X-` headers.

import type { Pair } from "./fields.ts";

/** Most headers of one email. */
export const headersMax = 20;
const nameMax = 100;
const valueMax = 998;

const allowed = /^(?:list-.+|in-reply-to|references|auto-submitted|precedence|importance|x-.+)$/i;
/** The providers, Amazon SES (behind Resend) and this service write these headers or take them as instructions. */
const reserved = /^x-(?:pm|ses|resend|reliable-email)-/i;
const token = /^[\w!#$%&'*+\-.^`|~]+$/;

/** Why a client may not set this header to this value; undefined if it may. */
export function headerFault([name, value]: Pair): string | undefined {
  if (!allowed.test(name) || !token.test(name) || name.length > nameMax)
    return "is not a header that can be set";
  if (reserved.test(name)) return "is reserved";
  if (!/^[ -~]*$/.test(value)) return "has a character that is not printable ASCII";
  return value.length > valueMax ? `is over ${valueMax} characters` : undefined;
}

const post = "list-unsubscribe-post";
const oneClick = "List-Unsubscribe=One-Click";

/** Why `List-Unsubscribe-Post` is invalid (RFC 8058, 3.1); undefined if it is absent or valid. */
export function oneClickFault(headers: readonly Pair[]): string | undefined {
  const value = (name: string) => headers.find(([one]) => one.toLowerCase() === name)?.[1];
  const given = value(post);
  if (given === undefined) return undefined;
  if (given !== oneClick) return `is not ${oneClick}`;
  const uris = (value("list-unsubscribe") ?? "").matchAll(/<([^<>]*)>/g);
  const hasHttps = Array.from(uris, ([, uri = ""]) => URL.parse(uri.trim())).some(
    (url) => url?.protocol === "https:",
  );
  return hasHttps
    ? undefined
    : "needs an https address in List-Unsubscribe, such as <https://example.com/u/1>";
}
