// Who may submit: whoever shows one of the bearer tokens (RFC 6750). Neither the answer nor the time that it takes
// says how much of a token was right.

import { createHash, timingSafeEqual } from "node:crypto";

/** Whether the value of an `Authorization` header lets in whoever sent it. */
export type Gate = (authorization: string | null) => boolean;

/** The scheme in any case. A header that is given twice comes as both values with a comma, which no token has. */
const bearer = /^bearer +([\x21-\x2b\x2d-\x7e]+)$/i;

export function openGate(tokens: readonly string[]): Gate {
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

function digest(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
