// The slot of a key in a Redis Cluster.

export const slots = 16_384;

/** CRC16 (XMODEM) of the key, or of the text in its first braces unless that is empty: the Redis Cluster Specification. */
export function hashSlot(key: string): number {
  const [, tag = key] = /^[^{]*\{([^}]+)\}/.exec(key) ?? [];
  let crc = 0;
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
  }
  return (crc & 0xffff) % slots;
}
