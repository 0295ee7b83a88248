// The claims of one claimant at one partition: numbered for themselves, one at a time. A claim that is not answered stays
// with its partition, and is repeated there.

import { type Claim, Claimant, outlasts } from "../../claimant.ts";
import type { ClaimResult } from "../../contract.ts";
import { createId } from "../partition.ts";

/**
 * Sends one claim to the partition. Rejects if it does not answer.
 * @param isRepeated the partition may have leased a batch to this claim
 */
export type SendClaim = (claim: Claim, isRepeated: boolean) => Promise<ClaimResult>;

export type LaneAnswer =
  | { readonly kind: "answered"; readonly claim: Claim; readonly result: ClaimResult }
  | { readonly kind: "failed"; readonly error: unknown };

export class Lane {
  readonly #claimant: Claimant;
  #asking: Promise<void> | undefined;
  #answer: LaneAnswer | undefined;

  constructor(partition: number, partitions: number) {
    this.#claimant = new Claimant(() => createId(partition, partitions));
  }

  /** Resolves when the claim under way has ended; undefined if there is none. */
  get asking(): Promise<void> | undefined {
    return this.#asking;
  }

  /** A claim was answered, and nobody has taken the answer yet. */
  get hasAnswer(): boolean {
    return this.#answer !== undefined;
  }

  /** The partition may have leased a batch to a claim of which nothing is known. */
  get isUnanswered(): boolean {
    return this.#claimant.isUnanswered;
  }

  /** The partition may have leased a batch that nobody has taken. */
  get isOpen(): boolean {
    return this.hasAnswer || this.isUnanswered;
  }

  /** Begins a claim, unless one is under way or answered. */
  ask(leaseMs: number, send: SendClaim): void {
    if (this.hasAnswer) return;
    this.#asking ??= this.#claim(leaseMs, send)
      .then(({ claim, result }): LaneAnswer => ({ kind: "answered", claim, result }))
      .catch((error: unknown): LaneAnswer => ({ kind: "failed", error }))
      .then((answer) => {
        this.#answer = answer;
        this.#asking = undefined;
      });
  }

  /** The answer, once. A batch is left out if its lease may be over: it is claimed again when it has expired. */
  take(leaseMs: number): LaneAnswer | undefined {
    const answer = this.#answer;
    this.#answer = undefined;
    if (answer?.kind !== "answered" || !("batch" in answer.result)) return answer;
    return outlasts(answer.claim, leaseMs, 0) ? answer : undefined;
  }

  async #claim(leaseMs: number, send: SendClaim) {
    const claimed = await this.#claimant.claim(leaseMs, send);
    // A repeated claim whose lease is over: the next one has a new number.
    return claimed.result.kind === "spent" ? this.#claimant.claim(leaseMs, send) : claimed;
  }
}
