// The partitions of the queue that did not answer a command. It goes on without them, names them, and exits with 1.

import type { Unreached } from "../../queue/contract.ts";

/** An answer of several partitions, of which some may be missing. */
interface Partial {
  readonly unreached?: readonly Unreached[];
}

export class UnreachedPartitions {
  readonly #reasons = new Map<number, string>();

  /** Notes what an answer lacks, and returns it. */
  note<Answer extends Partial>(answer: Answer): Answer {
    for (const { partition, reason } of answer.unreached ?? []) this.#reasons.set(partition, reason);
    return answer;
  }

  get isEmpty(): boolean {
    return this.#reasons.size === 0;
  }

  /** One line for each, without secrets that the store may quote. */
  get lines(): string[] {
    return this.list.map(
      ({ partition, reason }) => `Partition ${partition} of the queue does not answer: ${reason}`,
    );
  }

  /** A field for a document, absent if all have answered. */
  get field(): Partial {
    return this.isEmpty ? {} : { unreached: this.list };
  }

  get list(): Unreached[] {
    const entries = [...this.#reasons].toSorted(([a], [b]) => a - b);
    return entries.map(([partition, reason]) => ({ partition, reason }));
  }
}
