// The requests that a fake has received and the emails that it has accepted: the truth with which tests compare what
// the service reports.

import type { Attachment } from "./attachment_rules.ts";
import type { Violation } from "./schema.ts";

/** An email as a provider understands it. Several addresses in one field are separated by ", ". */
export interface Message {
  readonly from: string;
  readonly to: string;
  readonly cc?: string | undefined;
  readonly bcc?: string | undefined;
  readonly replyTo?: string | undefined;
  readonly subject: string;
  readonly text?: string | undefined;
  readonly html?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly attachments?: readonly Attachment[] | undefined;
  /** Number of attachments that Resend has ignored, because they came in a batch. */
  readonly droppedAttachments?: number | undefined;
  /** Why Resend will never send it, although it has accepted it. */
  readonly unsent?: string | undefined;
  /** Addresses that Postmark will not deliver to, although it has accepted the email for the others. */
  readonly inactive?: readonly string[] | undefined;
  /** Resend's time of delivery, as it was given. */
  readonly scheduledAt?: string | undefined;
  /** Resend's tags, Postmark's metadata. */
  readonly labels: Readonly<Record<string, string>>;
  /** Postmark's tag. */
  readonly tag?: string | undefined;
  /** Postmark's message stream. */
  readonly stream?: string | undefined;
}

export interface Acceptance extends Message {
  readonly provider: "resend" | "postmark";
  readonly messageId: string;
  /** Unix ms. */
  readonly atMs: number;
  /** {@link RecordedRequest.number} of the request that brought it. */
  readonly request: number;
  /** Resend's idempotency key, or Postmark's metadata `batch_id`; empty if there was none. */
  readonly batch: string;
  /** The service's id of the email, from the tag or metadata `email_id`; empty if there was none. */
  readonly emailId: string;
}

export interface RecordedRequest {
  readonly number: number;
  readonly atMs: number;
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Absent if the ledger keeps only envelopes, or if the body was never read. */
  readonly body?: string;
  /** Status of the API's answer; absent while it works, and if it never saw the request. */
  answered?: number;
  /** The fault that struck it. */
  fault?: unknown;
  /** Violations of the provider's description of its API, such as `$[1].tags[0].name: missing`; absent if there are none. */
  violations?: readonly string[];
}

/**
 * Adds violations to the record of their request.
 * @param at path of the value that has them: `$` for the body, `$[1]` for its second item
 */
export function recordViolations(
  record: RecordedRequest,
  violations: readonly Violation[],
  at: string,
): void {
  if (violations.length === 0) return;
  const texts = violations.map(({ at: path, text }) => `${at}${path === "" ? "" : `.${path}`}: ${text}`);
  record.violations = [...(record.violations ?? []), ...texts];
}

export interface Ledger {
  readonly acceptances: Acceptance[];
  readonly requests: RecordedRequest[];
  /** Emails that were accepted more than once: id -> acceptances. Emails without an id are omitted. */
  duplicates(): Map<string, Acceptance[]>;
  /** Returns the part that is kept. */
  accept(acceptance: Acceptance): Acceptance;
  clear(): void;
}

/** How much is kept: `envelopes` keeps no bodies of emails and requests, for runs with millions of emails. */
export type Keeping = "all" | "envelopes";

export function createLedger(keeping: Keeping, onAccept?: (acceptance: Acceptance) => void): Ledger {
  const acceptances: Acceptance[] = [];
  const requests: RecordedRequest[] = [];
  const omitted: readonly string[] = keeping === "all" ? [] : ["text", "html"];
  return {
    acceptances,
    requests,
    duplicates: () => duplicatesIn(acceptances),
    accept(acceptance) {
      const kept = withoutAbsent(acceptance, omitted);
      acceptances.push(kept);
      onAccept?.(acceptance);
      return kept;
    },
    clear() {
      acceptances.length = 0;
      requests.length = 0;
    },
  };
}

/** A copy of only the fields that have a value: most have few, and there may be millions. */
function withoutAbsent(acceptance: Acceptance, omitted: readonly string[]): Acceptance {
  const kept: Record<string, unknown> = {};
  for (const name of Object.keys(acceptance) as (keyof Acceptance)[])
    if (acceptance[name] !== undefined && !omitted.includes(name)) kept[name] = acceptance[name];
  return kept as unknown as Acceptance;
}

/** {@link Ledger.duplicates}, also for the acceptances of several fakes together. */
export function duplicatesIn(acceptances: Iterable<Acceptance>): Map<string, Acceptance[]> {
  const byEmail = new Map<string, Acceptance[]>();
  for (const acceptance of acceptances) {
    if (acceptance.emailId === "") continue;
    const others = byEmail.get(acceptance.emailId);
    if (others) others.push(acceptance);
    else byEmail.set(acceptance.emailId, [acceptance]);
  }
  for (const [id, same] of byEmail) if (same.length === 1) byEmail.delete(id);
  return byEmail;
}
