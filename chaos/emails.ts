// The emails of a run, of all kinds. Each follows from the seed and its number alone, so that arrivals can be compared
// with submissions without storing either.

import { seededRandom } from "../fakes/faults.ts";
import { type Poison, poisonWord } from "../fakes/poison.ts";
import { type AttachedFile, drawFiles, drawInlineImage } from "./files.ts";

/** An email as a client submits it. */
export interface Email {
  /** The fields with one value. */
  readonly texts: Readonly<Record<string, string>>;
  readonly cc: readonly string[];
  readonly bcc: readonly string[];
  readonly headers: readonly Pair[];
  readonly tags: readonly Pair[];
  readonly files: readonly AttachedFile[];
  /** How long after its first submission it is to be sent, ms. */
  readonly sendAfterMs?: number;
}

export type Pair = readonly [name: string, value: string];

export const defaultFrom = "shop@example.com";
/** No provider accepts a sender at this domain. */
export const unverifiedDomain = "unverified.example";

/** The properties of the emails of a run. */
export interface Emails {
  readonly seed: number;
  /** All emails have the same sender, except refused and some poisoned ones. */
  readonly oneSender?: boolean;
  /** One email in this many is poisoned; none if absent. */
  readonly poisonEvery?: number;
  /** Whether no email has files, copies, headers, tags or `send_at`. */
  readonly onlyPlain?: boolean;
}

/** One email in this many must end as a dead letter. */
const refusedEvery = 211;

/** The kinds of poison, used in turn. */
const poisons: readonly Poison[] = [
  { kind: "hang", after: false, at: undefined },
  { kind: "error", after: false, at: undefined },
  { kind: "key", after: false, at: "resend" },
  { kind: "reset", after: false, at: undefined },
  { kind: "nonsense", after: false, at: undefined },
  { kind: "sender", after: false, at: undefined },
  { kind: "error", after: false, at: "resend" },
  { kind: "error", after: false, at: "postmark" },
  { kind: "key", after: false, at: undefined },
  { kind: "error", after: true, at: undefined },
  { kind: "sender", after: false, at: "resend" },
  { kind: "hang", after: false, at: "postmark" },
  { kind: "hang", after: true, at: undefined },
  { kind: "nonsense", after: true, at: "resend" },
  { kind: "sender", after: false, at: "postmark" },
  { kind: "reset", after: true, at: "postmark" },
];

/** The poison in an email; undefined if it is harmless. */
export function poisonOf(n: number, { seed, poisonEvery = 0 }: Emails): Poison | undefined {
  if (poisonEvery === 0 || n % poisonEvery !== poisonEvery - 1 || isRefused(n)) return undefined;
  return poisons[(seed + Math.floor(n / poisonEvery)) % poisons.length];
}

/**
 * Whether an email may end as a dead letter. A poisoned one may not if one provider accepts it and the other definitely
 * refuses it; where a failure leaves the outcome unknown, it may be given up.
 */
export function mayDie(n: number, emails: Emails): boolean {
  if (isRefused(n)) return true;
  const poison = poisonOf(n, emails);
  return poison !== undefined && (poison.at === undefined || !isAboutSender(poison));
}

/** A definite refusal: another provider can be used immediately. */
function isAboutSender({ kind }: Poison): boolean {
  return kind === "sender" || kind === "key";
}

/** Whether every provider refuses it, so that it has to end as a dead letter. */
export function isRefused(n: number): boolean {
  return n % refusedEvery === refusedEvery - 1;
}

const words = [
  "order",
  "Grüße",
  "東京",
  "invoice",
  "🚀",
  "naïve",
  "reset",
  "a=b&c",
  "100 %",
  '"quoted"',
  "<b>",
  "Ωmega",
];

export function emailOf(n: number, emails: Emails): Email {
  const { seed } = emails;
  const poison = poisonOf(n, emails);
  const random = seededRandom(seed * 7919 + n);
  random();
  const text = (count: number) =>
    Array.from({ length: count }, () => words[Math.floor(random() * words.length)]).join(" ");
  // Most are short; a few are as long as a newsletter.
  const size = random() < 0.02 ? 2000 : 10 + Math.floor(random() * 60);
  const texts = {
    subject: `${seed}-${n} ${text(3)}${poison === undefined ? "" : ` ${poisonWord(poison)}`}`,
    body: `Email ${n}\n${text(size)}\n`,
    to: `user-${n}@example.org`,
    from: senderOf(n, emails),
    ...(random() < 0.3 && { to_name: `Jane "${n}" Doe` }),
    ...(random() < 0.3 && { from_name: `Shop №${n % 10}` }),
    ...(random() < 0.2 && { html: `<p>Email ${n}: ${text(5)}</p>` }),
    ...(random() < 0.2 && { reply_to: `reply-${n}@example.com` }),
  };
  if (emails.onlyPlain) return { texts, cc: [], bcc: [], headers: [], tags: [], files: [] };
  return drawRest(n, texts, random);
}

/** Draws the other fields. Half of the emails get none of them. */
function drawRest(n: number, texts: Email["texts"], random: () => number): Email {
  const isDrawn = (share: number) => random() < share;
  const addresses = (name: string) =>
    Array.from({ length: 1 + Math.floor(random() * 3) }, (_, i) => `${name}-${n}-${i}@example.net`);
  const cc = isDrawn(0.12) ? addresses("cc") : [];
  const bcc = isDrawn(0.12) ? addresses("bcc") : [];
  const headers = isDrawn(0.12) ? headersOf(n) : [];
  const tags = isDrawn(0.12) ? tagsOf(n) : [];
  const files = isDrawn(0.08) ? drawFiles(n, random) : [];
  const sendAfterMs = isDrawn(0.08) ? Math.floor(200 + random() * 3000) : undefined;
  const logo = isDrawn(0.02) ? drawInlineImage(n, random) : undefined;
  return {
    texts: logo ? { ...texts, html: `<p>Email ${n} <img src="cid:${logo.contentId}"></p>` } : texts,
    cc,
    bcc,
    headers,
    tags,
    files: logo ? [...files, logo] : files,
    ...(sendAfterMs !== undefined && { sendAfterMs }),
  };
}

function headersOf(n: number): Pair[] {
  const listHeaders: Pair[] = [
    ["List-Unsubscribe", `<https://example.com/leave/${n}>, <mailto:leave-${n}@example.com>`],
    ["List-Unsubscribe-Post", "List-Unsubscribe=One-Click"],
  ];
  return [...(n % 2 === 0 ? listHeaders : []), ["X-Chaos", `number ${n}; a=b&c`]];
}

function tagsOf(n: number): Pair[] {
  return [...(n % 2 === 0 ? [["tag", `kind-${n % 7}`] as const] : []), ["chaos_number", `n-${n}`]];
}

/** Most senders are at one domain, the others at several that are verified as well. */
function senderOf(n: number, emails: Emails): string {
  if (isRefused(n)) return `nobody@${unverifiedDomain}`;
  const poison = poisonOf(n, emails);
  // The provider's refusal of this sender must not apply to any other email.
  if (poison !== undefined && isAboutSender(poison)) return `someone@made-up-${n}.example`;
  if (emails.oneSender) return defaultFrom;
  return n % 3 === 0 ? `news@shop-${n % 5}.example.org` : defaultFrom;
}

/** The number of the email with this subject; undefined if it does not belong to this seed. */
export function numberOf(seed: number, subject: string): number | undefined {
  const match = /^(\d+)-(\d+) /.exec(subject);
  return match !== null && Number(match[1]) === seed ? Number(match[2]) : undefined;
}
