// Turns a provider's words into a reason. Reasons are shown to operators, so anything in them that looks like an address,
// a name or another part of the email is replaced.

import { cutReason, reasonMax } from "../policy/history.ts";

/** Names of fields: the only words that providers put in quotes without quoting the email. */
const fieldName =
  /^(?:From|To|Cc|Bcc|ReplyTo|Reply-To|Subject|HtmlBody|TextBody|Tag|Metadata|MessageStream|Headers|Attachments|Errors|@)$/i;

/** An address, its `@` perhaps written as `%40`. A local part may hold any character but space and those excluded. */
const address = /[^\s<>()[\]",;:@]*(?:@|%40)[^\s<>()[\]",;:@]*[^\s<>()[\]",;:@.]/g;

// oxlint-disable-next-line no-control-regex
const control = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g;

/** Joins the parts of a reason in the order given, at most {@link reasonMax} characters. Absent parts are omitted. */
export function reasonOf(...parts: readonly (string | number | null | undefined)[]): string {
  const text = parts
    .filter((part) => part !== undefined && part !== null && part !== "")
    .join(" ")
    // Cut first, so that an answer of megabytes costs nothing.
    .slice(0, 4 * reasonMax)
    .replace(control, " ")
    .replace(/(?<![\w'])'(.*?)'(?!\w)/g, (quoted, inner: string) =>
      fieldName.test(inner) ? quoted : "'[…]'",
    )
    .replace(/"[^"]*"?/g, '"[…]"')
    .replace(address, (found) => (found === "'@'" ? found : "[address]"))
    .replace(/\s+/g, " ")
    .trim();
  return cutReason(text);
}

const kindOfFailure =
  /^(?:\d{3}\b)? ?(?:(?:[a-z]+(?:_[a-z]+)+|code \d+|refused)(?=:)|no (?:answer|connection): [A-Za-z_]+|sandbox: [a-z-]+$)?/;

/**
 * The part of a reason that names the kind of failure: a status, or the name or code of an error. The rest may quote the
 * email, so only this part is logged; `queue show` has all of it. Undefined if the reason has no such part.
 */
export function kindOf(reason = ""): string | undefined {
  return kindOfFailure.exec(reason)?.[0].trim() || undefined;
}

/** The code of a thrown error, else its name. Its message is never used: it holds paths or URLs. */
export function errorName(error: unknown): string {
  if (!(error instanceof Error)) return "error";
  return "code" in error && typeof error.code === "string" ? error.code : error.name;
}
