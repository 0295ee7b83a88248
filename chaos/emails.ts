// The emails of a run: each follows from the seed and its number alone, so that what arrives can be compared with
// what was sent without keeping either.

import { seededRandom } from "../fakes/faults.ts";

/** The fields of a submission. */
export type Fields = Readonly<Record<string, string>>;

export const defaultFrom = "shop@example.com";
/** No provider takes a sender of this domain. */
export const unverifiedDomain = "unverified.example";

/** Every so many emails one that has to end as a dead letter. */
const refusedEvery = 211;

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

/** @param oneSender all are from one sender, but for those that are refused */
export function emailOf(seed: number, n: number, oneSender = false): Fields {
  const random = seededRandom(seed * 7919 + n);
  random();
  const text = (count: number) =>
    Array.from({ length: count }, () => words[Math.floor(random() * words.length)]).join(" ");
  // Most are short; a few are as long as a newsletter.
  const size = random() < 0.02 ? 2000 : 10 + Math.floor(random() * 60);
  return {
    subject: `${seed}-${n} ${text(3)}`,
    body: `Email ${n}\n${text(size)}\n`,
    to: `user-${n}@example.org`,
    from: isRefused(n) ? `nobody@${unverifiedDomain}` : oneSender ? defaultFrom : senderOf(n),
    ...(random() < 0.3 && { to_name: `Jane "${n}" Doe` }),
    ...(random() < 0.3 && { from_name: `Shop №${n % 10}` }),
    ...(random() < 0.2 && { html: `<p>Email ${n}: ${text(5)}</p>` }),
    ...(random() < 0.2 && { reply_to: `reply-${n}@example.com` }),
  };
}

/** Most of one domain, the others of several that are verified as well. */
function senderOf(n: number): string {
  return n % 3 === 0 ? `news@shop-${n % 5}.example.org` : defaultFrom;
}

/** The number of the email with this subject; undefined if it is none of this seed's. */
export function numberOf(seed: number, subject: string): number | undefined {
  const match = /^(\d+)-(\d+) /.exec(subject);
  return match !== null && Number(match[1]) === seed ? Number(match[2]) : undefined;
}
