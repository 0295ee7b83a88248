// Who may submit: clients with one of the bearer tokens (RFC 6750). Neither the answer nor its timing reveals how much of
// a token was right. Without tokens everyone may submit, except pages of other sites, for which a browser sends requests
// without its user's knowledge.

/** The scheme in any case. A repeated header arrives as both values with a comma, which no token has. */
const bearer = /^bearer +([\x21-\x2b\x2d-\x7e]+)$/i;

/** Returns whether the sender of an `Authorization` header may submit. */
export function createGate(tokens: readonly string[]): (authorization: string | null) => boolean {
  const digests = tokens.map(digest);
  return (authorization) => {
    const token = bearer.exec(authorization ?? "")?.[1];
    if (token === undefined) return false;
    const given = digest(token);
    // Compares the digests of all tokens, so that the time does not depend on what matches.
    return digests.filter((one) => crypto.timingSafeEqual(one, given)).length > 0;
  };
}

/** Names the token of an `Authorization` header without revealing it: 16 hex digits. */
export function tokenName(authorization: string | null): string {
  const token = bearer.exec(authorization ?? "")?.[1] ?? "";
  return digest(token).toString("hex").slice(0, 16);
}

function digest(token: string): Buffer {
  return new Bun.CryptoHasher("sha256").update(token).digest();
}

/** `localhost` and its subdomains, 127.0.0.0/8 and ::1: no foreign DNS can point these names here. */
const loopback = /^(?:(?:[^:]+\.)?localhost|127(?:\.\d{1,3}){3}|::1|\[::1\])(?::\d*)?$/i;

/** @param host with or without a port, as in a `Host` header or a setting */
export function isLoopback(host: string): boolean {
  return loopback.test(host);
}

/**
 * Why a request is refused as one that a browser sends for another site, or undefined. Only browsers send these headers,
 * and no page can forge them.
 * @param onLoopback whether the server listens on loopback only. The name in `Host` must be a loopback name then: a page
 *   whose own name resolves to 127.0.0.1 would count as the same site (DNS rebinding).
 */
export function crossSiteReason(headers: Headers, onLoopback: boolean): string | undefined {
  const site = headers.get("sec-fetch-site");
  const origin = headers.get("origin");
  if (site === null && origin === null) return undefined;
  const host = headers.get("host") ?? "";
  if (site !== null && site !== "same-origin" && site !== "none") {
    return "Sec-Fetch-Site: must be same-origin or none without a token";
  }
  if (origin !== null && origin !== URL.parse(`http://${host}`)?.origin) {
    return "Origin: must be this server's without a token";
  }
  if (onLoopback && !isLoopback(host)) return "Host: must be a loopback name such as localhost";
  return undefined;
}
