// Chooses the emails of a claimed batch for its first request. The others leave the batch: those whose senders travel
// apart, and those whose files do not fit. A request is always repeated with the same bytes, so only a batch that never
// had one is changed.

import { hasFiles } from "../email/email.ts";
import { emailBytes } from "../email/size.ts";
import { type DecodedBatch, type DecodedEmail, isInDoubt } from "./batch.ts";
import { compose, type Decision, type DecisionInput, type Separation } from "./decision.ts";
import { giveBack } from "./decide_email.ts";
import { sharedBytesMax } from "./request_budget.ts";
import { type KnownSenders, separateSenders } from "./sender_memory.ts";

/**
 * Chooses the emails of the first request with a batch, perhaps none.
 * @param senders     the senders remembered at the batch's provider
 * @param sendersMs   now, by the clock of `senders`
 * @param takesFiles  whether the request may have files: not while too many others with files are under way
 * @returns `decision` covers the emails that leave before the request; undefined if none does
 */
export function presend(
  input: DecisionInput,
  senders: KnownSenders,
  sendersMs: number,
  takesFiles: boolean,
): { readonly emails: readonly DecodedEmail[]; readonly decision?: Decision } {
  const { batch } = input;
  if (isInDoubt(batch)) return { emails: batch.emails };
  const bySender = separateSenders(input, senders, sendersMs);
  const { emails, verdicts: others } = separateFiles(bySender.emails, input, takesFiles);
  const verdicts = [...bySender.verdicts, ...others];
  if (verdicts.length === 0) return { emails };
  const decision = compose({ verdicts }, input);
  if (emails.length === 0) return { emails, decision };
  return { emails, decision: { ...decision, settlement: { ...decision.settlement, keepsLease: true } } };
}

/** Emails that leave because of their files travel alone next: every provider accepts that. */
function separateFiles(
  emails: readonly DecodedEmail[],
  input: DecisionInput,
  takesFiles: boolean,
): Separation {
  if (!emails.some(({ email }) => hasFiles(email))) return { emails, verdicts: [] };
  const kept = new Set(keepFiles(emails, input, takesFiles));
  const verdicts = emails
    .filter((email) => !kept.has(email))
    .map((email) => giveBack(email, { delayMs: 0, pieceMax: 1 }, input));
  return { emails: [...kept], verdicts };
}

function keepFiles(
  emails: readonly DecodedEmail[],
  { policy }: DecisionInput,
  takesFiles: boolean,
): readonly DecodedEmail[] {
  if (!takesFiles || !policy.batchesFiles) {
    const small = emails.filter(({ email }) => !hasFiles(email));
    return small.length === 0 && takesFiles ? emails.slice(0, 1) : small;
  }
  let bytes = 0;
  return emails.filter(({ email }, index) => {
    const added = emailBytes(email);
    const fits = index === 0 || bytes + added <= sharedBytesMax;
    if (fits) bytes += added;
    return fits;
  });
}

/** Whether the next request with the batch has files. */
export function carriesFiles({ emails }: Pick<DecodedBatch, "emails">, batchesFiles: boolean): boolean {
  const count = emails.filter(({ email }) => hasFiles(email)).length;
  return batchesFiles ? count > 0 : count === emails.length;
}

/**
 * Whether a batch still has an email that must travel alone. No request is made before it leaves, so none was made, even
 * if the lease has expired.
 */
export function isNeverBegun({ batch: { emails }, policy }: DecisionInput): boolean {
  return !policy.batchesFiles && emails.length > 1 && emails.some(({ email }) => hasFiles(email));
}
