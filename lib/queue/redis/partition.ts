// The partitions of a queue: independent parts, each with all its keys in one hash slot, so that a cluster can hold them
// on several nodes. The partition of an id is a function of the id, and never changes.

/** Hash slots of a Redis Cluster. */
const slots = 16_384;

/**
 * The partition of an email's or a batch's id, or of an idempotency key: its CRC-32 (as in zlib) modulo the number of
 * partitions. Stored data depends on it.
 */
export function partitionOf(text: string, partitions: number): number {
  return partitions === 1 ? 0 : Bun.hash.crc32(text) % partitions;
}

/** A new id of this partition: a UUIDv7. */
export function createId(partition: number, partitions: number): string {
  for (;;) {
    const id = Bun.randomUUIDv7();
    if (partitionOf(id, partitions) === partition) return id;
  }
}

/**
 * The hash tag with which all keys of a partition begin. Partition 0 has the same one whatever the number of partitions,
 * so that a process with another number finds the queue.
 *
 * `{prefix:0}` to `{prefix:3}` lie in one quarter of the hash slots each, whatever the prefix, since CRC16 is linear. With
 * more partitions, a number is added with which each lies in another N-th of the slots.
 */
export function tagOf(prefix: string, partition: number, partitions: number): string {
  const tag = `${prefix}:${partition}`;
  if (partition === 0 || partitions <= 4) return `{${tag}}`;
  const nthOf = (one: string) => Math.floor((hashSlot(`{${one}}`) * partitions) / slots);
  const wanted = (nthOf(`${prefix}:0`) + partition) % partitions;
  for (let k = 0; ; k += 1) {
    if (nthOf(`${tag}.${k}`) === wanted) return `{${tag}.${k}}`;
  }
}

/**
 * The slot of a key, as the Redis Cluster Specification defines it: CRC16 (XMODEM) of the key, or of the text in its first
 * braces unless that is empty.
 */
export function hashSlot(key: string): number {
  const [, tag = key] = /^[^{]*\{([^}]+)\}/.exec(key) ?? [];
  let crc = 0;
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
  }
  return (crc & 0xffff) % slots;
}
