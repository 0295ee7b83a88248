// The web client's closed door: every request passes here first, and every answer gets its headers here. A page of
// another site reaches nothing, since its name is not a loopback name with this port, and it has no token.

import { createGate } from "../../lib/http/auth.ts";

const policyName = "content-security-policy";
const policy = [
  "default-src 'self'",
  "img-src 'self' data:",
  "object-src 'none'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const mailSandbox = "allow-popups allow-popups-to-escape-sandbox";

/** An email's HTML runs nothing, loads nothing, and leads nowhere but into a new tab. */
const mailPolicy = [
  `sandbox ${mailSandbox}`,
  "default-src 'none'",
  "style-src 'unsafe-inline'",
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'self'",
].join("; ");

/** A file may contain anything, so it is saved, never shown. */
const filePolicy = "sandbox; default-src 'none'; frame-ancestors 'none'";

const commonHeaders = {
  "cache-control": "no-store",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
} as const;

export class Door {
  readonly token = Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString("base64url");
  readonly #gate = createGate([this.token]);

  /**
   * Why a request may not come in, as an answer, or undefined.
   * @param port where the web client listens
   */
  refuse({ headers, url }: Request, port: number): Response | undefined {
    // A name that anybody could point at 127.0.0.1 would make a page of its owner one of this site (DNS rebinding).
    if (!isOwnHost(headers.get("host"), port))
      return refusal(403, "Host: must be a loopback name with this port");
    if (URL.parse(url) === null) return refusal(400, "the address cannot be read");
    if (!pathOf(url).startsWith("/api/") || this.#gate(headers.get("authorization"))) return undefined;
    return refusal(401, "the token is missing or wrong: open the address that was printed last");
  }
}

export function pathOf(url: string): string {
  return new URL(url).pathname;
}

function isOwnHost(host: string | null, port: number): boolean {
  return ["127.0.0.1", "localhost", "[::1]"].some((name) => host?.toLowerCase() === `${name}:${port}`);
}

/** Adds the headers of every answer. */
export function seal(response: Response): Response {
  for (const [name, value] of Object.entries(commonHeaders)) response.headers.set(name, value);
  if (!response.headers.has(policyName)) response.headers.set(policyName, policy);
  return response;
}

/** The HTML of an email. */
export function mail(html: string): Response {
  return new Response(html, {
    headers: { "content-type": "text/html; charset=utf-8", [policyName]: mailPolicy },
  });
}

/** Answers with a file of an email, whatever type it claims to be. */
export function download(content: Uint8Array<ArrayBuffer>): Response {
  return new Response(content, {
    headers: {
      "content-type": "application/octet-stream",
      "content-disposition": "attachment",
      [policyName]: filePolicy,
    },
  });
}

export function answer(body: unknown, status = 200): Response {
  return Response.json(body, { status });
}

export function refusal(status: number, message: string): Response {
  return answer({ ok: false, error_message: message }, status);
}
