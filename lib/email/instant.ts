// Instants as clients write them.

/**
 * RFC 3339, 5.6, with a blank or `T`. A leap second is refused: clocks that count as POSIX does have no name for it, and
 * another second would be a repair.
 */
const pattern =
  /^(\d{4}-\d\d-\d\d)[T ]((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:(\.\d{1,3})\d*)?(?:Z|([+-])([01]\d|2[0-3]):([0-5]\d))$/i;

/** Unix ms of a date and time with seconds and offset, undefined if it is none. Fractions of a millisecond are cut off. */
export function parseInstant(text: string): number | undefined {
  const [, date = "", time = "", fraction = "", sign, hours = "0", minutes = "0"] = pattern.exec(text) ?? [];
  const localMs = Date.parse(`${date}T${time}${fraction}Z`);
  // JavaScript takes February 30th for March.
  if (Number.isNaN(localMs) || !new Date(localMs).toISOString().startsWith(date)) return undefined;
  const offsetMs = (Number(hours) * 60 + Number(minutes)) * 60_000;
  return sign === "-" ? localMs + offsetMs : localMs - offsetMs;
}
