// Instants as clients write them.

/**
 * RFC 3339, 5.6, with a space or `T`. Leap seconds are refused: POSIX time cannot represent them, and nothing is repaired
 * silently.
 */
const pattern =
  /^(\d{4}-\d\d-\d\d)[T ]((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:(\.\d{1,3})\d*)?(?:Z|([+-])([01]\d|2[0-3]):([0-5]\d))$/i;

/** Unix ms of a date and time with seconds and offset; undefined if it is none. Truncates to milliseconds. */
export function parseInstant(text: string): number | undefined {
  const [, date = "", time = "", fraction = "", sign, hours = "0", minutes = "0"] = pattern.exec(text) ?? [];
  const localMs = Date.parse(`${date}T${time}${fraction}Z`);
  // JavaScript reads February 30th as a day in March.
  if (Number.isNaN(localMs) || !new Date(localMs).toISOString().startsWith(date)) return undefined;
  const offsetMs = (Number(hours) * 60 + Number(minutes)) * 60_000;
  return sign === "-" ? localMs + offsetMs : localMs - offsetMs;
}
