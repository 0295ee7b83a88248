// The providers' rules for addresses, as far as they are known: a fake accepts only what a provider would accept.

/** The patterns that Postmark publishes, in any case. Resend's are unknown and assumed to be the same. */
const domainRule = /^(?:\.?[a-z0-9-])+$/i;
const localRule = /^[a-z0-9.!#$%&'`*+\-/=^_{}|~]+$/i;

export interface Mailbox {
  readonly address: string;
  readonly name?: string;
}

/** `a@b.c`, `Name <a@b.c>` or `"Na\"me, jr" <a@b.c>`; undefined for anything else, such as two addresses. */
export function parseMailbox(text: string): Mailbox | undefined {
  // oxlint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f]/.test(text)) return undefined;
  const named = /^(.*?)\s*<([^<>]*)>$/.exec(text);
  if (!named) return isAddress(text) ? { address: text } : undefined;
  const [, phrase = "", address = ""] = named;
  if (!isAddress(address)) return undefined;
  if (phrase === "") return { address };
  const quoted = /^"((?:[^"\\]|\\.)*)"$/.exec(phrase);
  if (quoted) return { address, name: (quoted[1] ?? "").replace(/\\(.)/g, "$1") };
  return /[()<>[\]:;@\\,."]/.test(phrase) ? undefined : { address, name: phrase };
}

/** The mailboxes of a comma-separated list, none of them parsed. A comma in quotes separates nothing. */
export function splitMailboxes(text: string): string[] {
  if (!text.includes(",")) return text.trim() === "" ? [] : [text.trim()];
  return (text.match(/(?:"(?:[^"\\]|\\.)*"?|[^",])+/g) ?? []).map((one) => one.trim());
}

export function isAddress(text: string): boolean {
  const at = text.lastIndexOf("@");
  const local = text.slice(0, at);
  const domain = text.slice(at + 1);
  if (at < 1 || !localRule.test(local) || !domainRule.test(domain)) return false;
  return ![local, domain].some((part) => part.startsWith(".") || part.endsWith(".") || part.includes(".."));
}

export function domainOf(address: string): string {
  return address.slice(address.lastIndexOf("@") + 1).toLowerCase();
}
