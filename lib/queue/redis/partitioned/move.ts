// The move of a queue with several partitions, or to one. Each partition that is concerned has to answer: a queue that is
// half closed, or whose keys are copied in part, has not taken a step.

import type { Admin, AdoptAnswer, DeadLetter, KeyPage, StoredKey } from "../../contract.ts";
import { partitionOf } from "../partition.ts";

type MoveOperations = Pick<Admin, "beginMove" | "cancelMove" | "listKeys" | "rememberKeys" | "adopt">;

export class PartitionedMove implements MoveOperations {
  readonly #partitions: readonly MoveOperations[];

  constructor(partitions: readonly MoveOperations[]) {
    this.#partitions = partitions;
  }

  async beginMove(): Promise<void> {
    await Promise.all(this.#partitions.map((one) => one.beginMove()));
  }

  async cancelMove(): Promise<void> {
    await Promise.all(this.#partitions.map((one) => one.cancelMove()));
  }

  /** One partition after the other. `from` is the number of one, and where its page begins. */
  async listKeys(limit: number, from = "0 ", lifeMinMs?: number): Promise<KeyPage> {
    const [, number = "", start = ""] = /^(\d+) (.*)$/s.exec(from) ?? [];
    const partition = Number(number);
    const page = await this.#partitions[partition]!.listKeys(limit, start || undefined, lifeMinMs);
    if (page.next !== undefined) return { keys: page.keys, next: `${partition} ${page.next}` };
    const isLast = partition + 1 === this.#partitions.length;
    return { keys: page.keys, next: isLast ? undefined : `${partition + 1} ` };
  }

  async rememberKeys(keys: readonly StoredKey[]) {
    const groups = this.#group(keys, ({ key }) => key);
    const answers = await Promise.all(groups.map(([partition, some]) => partition.rememberKeys(some)));
    return {
      added: answers.reduce((sum, { added }) => sum + added, 0),
      conflicts: answers.reduce((sum, { conflicts }) => sum + conflicts, 0),
    };
  }

  async adopt(letters: readonly DeadLetter[]): Promise<readonly AdoptAnswer[]> {
    const groups = this.#group(letters, ({ id }) => id);
    const answers = await Promise.all(groups.map(([partition, some]) => partition.adopt(some)));
    const byId = new Map(groups.flatMap(([, some], i) => some.map(({ id }, j) => [id, answers[i]![j]!])));
    return letters.map(({ id }) => byId.get(id)!);
  }

  /** By the partition to which each belongs. */
  #group<One>(all: readonly One[], textOf: (one: One) => string): (readonly [MoveOperations, One[]])[] {
    const { length } = this.#partitions;
    const groups = Map.groupBy(all, (one) => partitionOf(textOf(one), length));
    return Array.from(groups, ([number, some]) => [this.#partitions[number]!, some] as const);
  }
}
