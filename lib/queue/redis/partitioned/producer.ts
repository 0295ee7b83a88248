// The producer over several partitions: one writer each, with its own pace and readiness.

import type { Producer, Submission, SubmitResult } from "../../contract.ts";
import { sizeOf } from "../../file_pieces.ts";
import { createId, partitionOf } from "../partition.ts";
import { RedisProducer, type RedisProducerOptions } from "../producer.ts";
import { mergeHealth, splitOptions } from "./partitions.ts";
import { gatherStats } from "./stats.ts";

/**
 * Most emails that wait for partitions which do not take them now, and most of their size (text in UTF-16 units, and bytes
 * of files): half of what a server holds, so that there is room for the others.
 */
const stuckMax = 4096;
const stuckCharsMax = 32 * 1024 * 1024;

export class PartitionedProducer implements Producer {
  readonly #partitions: readonly RedisProducer[];
  /** Where the next email goes whose own partition cannot take it. */
  #next = 0;
  /** Emails with a key that wait for a partition which did not take them when they came. */
  #stuck = { emails: 0, chars: 0 };

  constructor(options: RedisProducerOptions) {
    this.#partitions = splitOptions(options).map(
      (one, _, { length }) =>
        new RedisProducer({
          ...one,
          filesMaxBytes: one.filesMaxBytes && Math.floor(one.filesMaxBytes / length),
          handOver: (submission, deadlineMs) => this.#submitElsewhere(submission, deadlineMs),
          onReady: () => {
            for (const partition of this.#partitions) partition.flush();
          },
        }),
    );
  }

  /**
   * An email with a key belongs to the partition of the key, so that its repetitions meet there. Any other is given a new
   * id for a partition that can take it if its own cannot.
   */
  async submit(submission: Submission, deadlineMs: number): Promise<SubmitResult> {
    const { id, idempotency } = submission;
    const number = partitionOf(idempotency?.key ?? id, this.#partitions.length);
    const own = this.#partitions[number]!;
    const takes = own.takes(submission, deadlineMs);
    if (idempotency === undefined) {
      const elsewhere = takes ? undefined : this.#submitElsewhere(submission, deadlineMs);
      return elsewhere ?? own.submit(submission, deadlineMs);
    }
    const moved = this.#moved(submission, number);
    return takes ? own.submit(moved, deadlineMs) : this.#submitStuck(own, moved, deadlineMs);
  }

  stats() {
    return gatherStats(this.#partitions.map((one) => one.stats()));
  }

  health() {
    return mergeHealth(this.#partitions.map((one) => one.health()));
  }

  async close() {
    await Promise.all(this.#partitions.map((one) => one.close()));
  }

  async #submitStuck(own: RedisProducer, submission: Submission, deadlineMs: number): Promise<SubmitResult> {
    const stuck = this.#stuck;
    const length = submission.text.length + sizeOf(submission.files ?? []);
    if (stuck.emails >= stuckMax || stuck.chars + length > stuckCharsMax) return { kind: "busy" };
    stuck.emails += 1;
    stuck.chars += length;
    const result = await own.submit(submission, deadlineMs);
    stuck.emails -= 1;
    stuck.chars -= length;
    return result;
  }

  /** Submits an email that was in no write to a partition that can take it; undefined if there is none. */
  #submitElsewhere(submission: Submission, deadlineMs: number): Promise<SubmitResult> | undefined {
    if (submission.idempotency !== undefined) return undefined;
    for (let tries = 0; tries < this.#partitions.length; tries += 1) {
      const number = this.#next % this.#partitions.length;
      this.#next = number + 1;
      const partition = this.#partitions[number]!;
      if (partition.takes(submission, deadlineMs))
        return partition.submit(this.#moved(submission, number), deadlineMs);
    }
    return undefined;
  }

  /** The submission with an id of this partition. */
  #moved(submission: Submission, number: number): Submission {
    const { length } = this.#partitions;
    const fits = partitionOf(submission.id, length) === number;
    return fits ? submission : { ...submission, id: createId(number, length) };
  }
}
