// The one place where a provider's words become a reason. Reasons are logged and shown to operators, so they
// hold no address, no name, nothing of the email: what looks like one of these is replaced.

import { cutReason, reasonMax } from "../policy/history.ts";

/** What providers put in quotes without quoting the email: the names of fields. */
const fieldName =
  /^(?:From|To|Cc|Bcc|ReplyTo|Reply-To|Subject|HtmlBody|TextBody|Tag|Metadata|MessageStream|Headers|Attachments|Errors|@)$/i;

/** Local parts may hold all but space and these; the same goes for `@` written as `%40`. */
const address = /[^\s<>()[\]",;:@]*(?:@|%40)[^\s<>()[\]",;:@]*[^\s<>()[\]",;:@.]/g;

// oxlint-disable-next-line no-control-regex
const control = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g;

/** A reason from what is known of an answer, in the order given; the absent parts are left out. */
export function reasonOf(...parts: readonly (string | number | null | undefined)[]): string {
  const text = parts
    .filter((part) => part !== undefined && part !== null && part !== "")
    .join(" ")
    // Cut first, so that a nonsensical answer of megabytes costs nothing.
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

/**
 * Of a reason what names the kind of failure: a status, the name or the code of an error. The words after it may name
 * a person, and are for whoever may see the email. Nothing if there is none.
 */
export function kindOf(reason: string): string | undefined {
  const [kind] =
    /^(?:\d{3}\b)? ?(?:(?:[a-z]+(?:_[a-z]+)+|code \d+|refused)(?=:)|no (?:answer|connection): [A-Za-z_]+|SANDBOX_FAULTS: [a-z-]+)?/.exec(
      reason,
    )!;
  return kind.trim() || undefined;
}
