// Email addresses and display names as both providers accept them, so that every email can go through either.

import { domainToASCII } from "node:url";

/** Longest address together with its name as written in a header, UTF-16 units (Postmark's limit). */
export const mailboxMax = 255;

const addressMax = 254;
const notAddress = "is not an email address";

// Postmark's published patterns, without the dots, which are checked as separators: atoms of the local part, and
// labels of a domain name (with RFC 1123's rule that a label neither begins nor ends with a hyphen).
const localPart = /^[a-z0-9!#$%&'`*+\-/=^_{}|~]+(?:\.[a-z0-9!#$%&'`*+\-/=^_{}|~]+)*$/i;
const domainName = /^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i;

// C0, DEL, C1, and Unicode's two line separators: any of them could end a header line somewhere.
// oxlint-disable-next-line no-control-regex
const controlCharacter = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;

/** Characters with a meaning in an address list: a name that has one is quoted. */
const special = /[()<>[\]:;@\\,."]/;

/**
 * Whether a text is `local@domain` in ASCII, without quotes or comments, where the domain has at least two labels and
 * is no IPv4 address. Lengths are RFC 5321's: local part 64, whole address 254.
 */
export function isAddress(text: string): boolean {
  const at = text.lastIndexOf("@");
  if (at < 1 || at > 64 || text.length > addressMax) return false;
  const domain = text.slice(at + 1);
  if (!localPart.test(text.slice(0, at)) || !domainName.test(domain)) return false;
  return /[^0-9]/.test(domain.slice(domain.lastIndexOf(".") + 1));
}

/** Says why {@link isAddress} is false, and how to write the address if only its domain is not in ASCII. */
export function addressFault(text: string): string {
  const at = text.lastIndexOf("@");
  const domain = text.slice(at + 1);
  // The conversion takes quadratic time: a megabyte of combining marks would stop the event loop for minutes.
  if (text.length > addressMax) return notAddress;
  const ascii = domainToASCII(domain);
  // The conversion may drop what is no letter, digit or mark, and would then propose another domain.
  const isForeign =
    !/[^\p{L}\p{M}\p{N}.-]/u.test(domain) &&
    ascii !== domain.toLowerCase() &&
    isAddress(text.slice(0, at + 1) + ascii);
  return isForeign ? `${notAddress}: its domain must be in punycode, ${ascii}` : notAddress;
}

/** Whether two addresses are one mailbox: domains match in any case, local parts exactly (RFC 5321, 2.4). */
export function sameAddress(one: string, other: string): boolean {
  if (one === other) return true;
  const at = one.lastIndexOf("@");
  return (
    at === other.lastIndexOf("@") &&
    one.slice(0, at) === other.slice(0, at) &&
    one.slice(at).toLowerCase() === other.slice(at).toLowerCase()
  );
}

/**
 * Whether an address is one of `allowed`, which has addresses and `@domains`. A domain matches in any case, and does
 * not include its subdomains.
 */
export function isAmong(address: string, allowed: readonly string[]): boolean {
  const domain = address.slice(address.lastIndexOf("@")).toLowerCase();
  return allowed.some((one) =>
    one.startsWith("@") ? one.toLowerCase() === domain : sameAddress(one, address),
  );
}

/** Whether a text has a character that would break its line, or be invisible on it. */
export function hasControlCharacter(text: string): boolean {
  return controlCharacter.test(text);
}

/**
 * Formats a mailbox for a provider, which encodes it itself: `address` alone, or `Name <address>`, with the name in
 * quotes if it needs them. No name can end its own quotes.
 */
export function formatMailbox(address: string, name: string | undefined): string {
  if (!name) return address;
  return special.test(name) ? `"${name.replace(/["\\]/g, "\\$&")}" <${address}>` : `${name} <${address}>`;
}
