// Who may submit: whoever shows one of the bearer tokens (RFC 6750). Neither the answer nor the time that it takes
// says how much of a token was right. Without tokens, everybody who reaches the port, except the pages of other sites:
// a browser sends them there on behalf of somebody who does not know of it.

import { createHash, timingSafeEqual } from "node:crypto";

/** Whether the value of an `Authorization` header lets in whoever sent it. */
export type Gate = (authorization: string | null) => boolean;

/** The scheme in any case. A header that is given twice comes as both values with a comma, which no token has. */
const bearer = /^bearer +([\x21-\x2b\x2d-\x7e]+)$/i;

export function createGate(tokens: readonly string[]): Gate {
  const digests = tokens.map(digest);
  return (authorization) => {
    const token = bearer.exec(authorization ?? "")?.[1];
    if (token === undefined) return false;
    const given = digest(token);
    // All of them are compared, and of their digests, since the time of a comparison may not depend on what is equal.
    let matches = 0;
    for (const one of digests) matches += Number(timingSafeEqual(one, given));
    return matches > 0;
  };
}

/** Names the token of an `Authorization` header without revealing it: 16 hex digits. */
export function tokenName(authorization: string | null): string {
  return digest(bearer.exec(authorization ?? "")?.[1] ?? "")
    .toString("hex")
    .slice(0, 16);
}

function digest(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}

/** `localhost` and below, 127.0.0.0/8 and ::1: no name that somebody else's DNS can point here. */
const loopback = /^(?:(?:[^:]+\.)?localhost|127(?:\.\d{1,3}){3}|::1|\[::1\])(?::\d*)?$/i;

/** @param host with or without a port, as in a `Host` header or in a setting */
export function isLoopback(host: string): boolean {
  return loopback.test(host);
}

/**
 * Why a request is refused as one that a browser sends for another site; undefined if it is not. Only browsers send
 * these headers, and no page can forge them.
 * @param onLoopback whether the server listens on loopback alone. Then the name in `Host` must be a loopback name too: a
 *   page whose own name was pointed at 127.0.0.1 would count as the same site (DNS rebinding).
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
