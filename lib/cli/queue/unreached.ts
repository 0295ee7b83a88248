// The partitions of the queue that did not answer a command. It goes on without them, names them, and exits with 1.

import type { PartialAnswer } from "../../queue/contract.ts";
import { withoutSecrets } from "../../runtime/log.ts";

export class UnreachedPartitions {
  readonly #secrets: readonly string[];
  readonly #reasons = new Map<number, string>();

  /** @param secrets which the store may quote */
  constructor(secrets: readonly string[]) {
    this.#secrets = secrets;
  }

  /** Notes what an answer lacks, and returns it. */
  note<Answer extends PartialAnswer>(answer: Answer): Answer {
    for (const { partition, reason } of answer.unreached ?? []) {
      this.#reasons.set(partition, withoutSecrets(reason, this.#secrets));
    }
    return answer;
  }

  /** A field for a document, absent if all have answered. */
  get field(): PartialAnswer {
    const entries = [...this.#reasons].toSorted(([a], [b]) => a - b);
    const unreached = entries.map(([partition, reason]) => ({ partition, reason }));
    return unreached.length === 0 ? {} : { unreached };
  }

  /** One line for each. */
  get lines(): string[] {
    const { unreached = [] } = this.field;
    return unreached.map(
      ({ partition, reason }) => `Partition ${partition} of the queue does not answer: ${reason}`,
    );
  }
}
