// Poisoned emails: every request that contains one fails in the way that its subject names. The content decides, so every
// attempt fails alike and no control call can race with the load.

import type { Fault, Stage } from "./faults.ts";

type Provider = "resend" | "postmark";

export const poisonKinds = [
  /** 500, in the provider's own form. */
  "error",
  "hang",
  "reset",
  /** 200 with a truncated body. */
  "nonsense",
  /** The whole request is refused because of this sender: its domain is not verified. */
  "sender",
  /** The whole request is refused because of this sender: the credential is not for its domain. */
  "key",
] as const;

export interface Poison {
  readonly kind: (typeof poisonKinds)[number];
  /** The provider accepts the whole request before it fails. Ignored for `sender` and `key`. */
  readonly after: boolean;
  /** The provider that fails; both if undefined. */
  readonly at: Provider | undefined;
}

/** The word in a subject that makes an email poisoned. */
export function poisonWord({ kind, after, at }: Poison): string {
  return `poison:${kind}${after ? "-after" : ""}${at === undefined ? "" : `@${at}`}`;
}

const word = new RegExp(`\\bpoison:(${poisonKinds.join("|")})(-after)?(?:@(resend|postmark))?(?![\\w@-])`);

/** The poison that a subject names, if any. */
export function poisonIn(subject: string): Poison | undefined {
  const match = word.exec(subject);
  if (match === null) return undefined;
  return {
    kind: match[1] as Poison["kind"],
    after: match[2] !== undefined,
    at: match[3] as Provider | undefined,
  };
}

/** A request that failed because of poison, and the ids of the emails in it. */
export interface PoisonedRequest {
  readonly provider: Provider;
  readonly atMs: number;
  readonly emailIds: readonly string[];
}

/** The fault that a poisoned email in this request causes, and the ids of all emails in it. */
export function poisonFault(
  provider: Provider,
  body: string,
): { readonly fault: Fault; readonly emailIds: readonly string[] } | undefined {
  if (!body.includes("poison:")) return undefined;
  const items = readItems(body);
  for (const { subject, from } of items) {
    const poison = poisonIn(subject);
    if (poison === undefined || (poison.at ?? provider) !== provider) continue;
    return { fault: faultOf(poison, provider, from), emailIds: items.map(({ emailId }) => emailId) };
  }
  return undefined;
}

function faultOf({ kind, after }: Poison, provider: Provider, from: string): Fault {
  const stage: Stage = after ? "accepted" : "read";
  const domain = /@([^@>]+)>?$/.exec(from)?.[1] ?? from;
  switch (kind) {
    case "error": {
      const resend = refusedByResend(500, "application_error", "An unexpected error occurred.");
      const postmark = refusedByPostmark(500, 101, "Internal server error.");
      return { stage, effect: { resend, postmark }[provider] };
    }
    case "hang":
    case "reset":
      return { stage, effect: kind };
    case "nonsense":
      return { stage, effect: { status: 200, text: '{"data":[{"id":' } };
    case "sender": {
      const unverified = `The ${domain} domain is not verified. Please, add and verify your domain on https://resend.com/domains`;
      const unsigned = `The 'From' address you supplied (${from}) is not a Sender Signature on your account.`;
      return senderRefusal(provider, unverified, 400, unsigned);
    }
    case "key": {
      const restricted = `This API key is not authorized to send emails from ${domain}`;
      const unconfirmed = `The Sender Signature of the 'From' address you supplied (${from}) has not been confirmed.`;
      return senderRefusal(provider, restricted, 401, unconfirmed);
    }
  }
}

function senderRefusal(provider: Provider, byResend: string, code: number, byPostmark: string): Fault {
  const resend = refusedByResend(403, "validation_error", byResend);
  const postmark = refusedByPostmark(422, code, byPostmark);
  return { stage: "read", effect: { resend, postmark }[provider] };
}

function refusedByResend(statusCode: number, name: string, message: string) {
  return { status: statusCode, json: { statusCode, name, message } };
}

function refusedByPostmark(status: number, ErrorCode: number, Message: string) {
  return { status, json: { ErrorCode, Message } };
}

interface Item {
  readonly subject: string;
  readonly from: string;
  readonly emailId: string;
}

/** The emails of a request, in Resend's form or in Postmark's. */
function readItems(body: string): Item[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return [];
  }
  return [parsed].flat().map((item) => {
    const { subject, Subject, from, From, tags, Metadata } = (item ?? {}) as Record<string, unknown>;
    const tag = Array.isArray(tags) ? tags.find((one) => one?.name === "email_id") : undefined;
    return {
      subject: String(subject ?? Subject ?? ""),
      from: String(from ?? From ?? ""),
      emailId: String(tag?.value ?? (Metadata as { email_id?: string } | undefined)?.email_id ?? ""),
    };
  });
}
