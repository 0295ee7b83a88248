// Texts of other people on a terminal, and times in words.

// oxlint-disable-next-line no-control-regex
const unsafe = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;

/**
 * Control characters as escapes: what a client or a provider wrote must not drive the terminal, nor turn the direction
 * in which a line is read.
 */
export function visible(text: string): string {
  return text.replace(unsafe, escaped);
}

/** The same for a text of several lines: their ends and tabs are kept. */
export function visibleLines(text: string): string {
  return text
    .replaceAll("\r\n", "\n")
    .replace(unsafe, (character) =>
      character === "\n" || character === "\t" ? character : escaped(character),
    );
}

function escaped(character: string): string {
  const code = character.charCodeAt(0);
  return code <= 0xff
    ? `\\x${code.toString(16).padStart(2, "0")}`
    : `\\u${code.toString(16).padStart(4, "0")}`;
}

const units = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000],
] as const;

/** A length of time in its largest unit of which there are two or more: `90s`, `3m`, `26h`, `5d`. */
export function lengthOf(ms: number): string {
  const [name, size] = units.find(([, unit]) => ms >= 2 * unit) ?? ["s", 1000];
  return `${Math.floor(ms / size)}${name}`;
}

/** `3m ago`, `in 2h`, `now`. */
export function ageOf(atMs: number, nowMs: number): string {
  const ms = nowMs - atMs;
  if (Math.abs(ms) < 1000) return "now";
  return ms > 0 ? `${lengthOf(ms)} ago` : `in ${lengthOf(-ms)}`;
}

/** `2026-01-02T03:04:05.678Z`. */
export function isoOf(atMs: number): string {
  return new Date(atMs).toISOString();
}

/** `1,024`. */
export function numberOf(count: number): string {
  return count.toLocaleString("en");
}

/** `1 email`, `1,024 emails`. */
export function countOf(count: number, thing: string): string {
  return `${numberOf(count)} ${thing}${count === 1 ? "" : "s"}`;
}

/** `12 MiB`. */
export function bytesOf(bytes: number): string {
  let [value, unit] = [bytes, "bytes"];
  for (const next of ["KiB", "MiB", "GiB", "TiB"]) {
    if (value < 1024) break;
    [value, unit] = [value / 1024, next];
  }
  return `${value < 10 && unit !== "bytes" ? value.toFixed(1) : Math.round(value)} ${unit}`;
}
