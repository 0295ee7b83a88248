// How an address and its display name are written for the providers. Both are given raw UTF-8 and encode it
// themselves; the rule here is that a name can never end its own quotes, so that it stays a name.

/** Characters that mean something in an address list: a name that holds one of them is quoted. */
const special = /[()<>[\]:;@\\,."]/;

/**
 * `address` alone, or `Name <address>`, the name in quotes where it needs them. Neither value is altered
 * otherwise: what cannot be sent was refused when the email was submitted.
 */
export function formatMailbox(address: string, name: string | undefined): string {
  if (!name) return address;
  return special.test(name) ? `"${name.replace(/["\\]/g, "\\$&")}" <${address}>` : `${name} <${address}>`;
}
