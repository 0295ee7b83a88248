// How times, numbers and untrusted texts are written for a terminal.

// oxlint-disable-next-line no-control-regex
const unsafe = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;

const unicodeEscape = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;

/**
 * Escapes control characters: what a client or a provider wrote must not drive the terminal, nor change the direction
 * in which a line is read.
 */
export function visible(text: string): string {
  return text.replace(unsafe, (character) => {
    const code = character.charCodeAt(0);
    return code <= 0xff ? `\\x${code.toString(16).padStart(2, "0")}` : unicodeEscape(character);
  });
}

/** As {@link visible}, for a text of several lines: keeps line ends and tabs. */
export function visibleLines(text: string): string {
  return text
    .replaceAll("\r\n", "\n")
    .split(/([\n\t])/)
    .map((part, i) => (i % 2 === 0 ? visible(part) : part))
    .join("");
}

/** JSON in which those characters are escaped too that JSON allows but a terminal obeys. */
export function jsonOf(value: unknown): string {
  return JSON.stringify(value).replace(unsafe, unicodeEscape);
}

const units = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000],
] as const;

/** In the largest unit of which there are two or more: `90s`, `3m`, `26h`, `5d`. */
export function formatDuration(ms: number): string {
  const [name, size] = units.find(([, unit]) => ms >= 2 * unit) ?? ["s", 1000];
  return `${Math.floor(ms / size)}${name}`;
}

/** `3m ago`, `in 2h`, `now`. */
export function formatAge(atMs: number, nowMs: number): string {
  const ms = nowMs - atMs;
  if (Math.abs(ms) < 1000) return "now";
  return ms > 0 ? `${formatDuration(ms)} ago` : `in ${formatDuration(-ms)}`;
}

/** `2026-01-02T03:04:05.678Z`. */
export function formatTime(atMs: number): string {
  return new Date(atMs).toISOString();
}

/** `1,024`, for a whole number. `toLocaleString` would load the rules of all languages, which takes 2 ms. */
export function formatNumber(count: number): string {
  return String(count).replace(/\B(?=(?:\d{3})+$)/g, ",");
}

/** `1 email`, `1,024 emails`. */
export function formatCount(count: number, noun: string): string {
  return `${formatNumber(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** `12 MiB`. */
export function formatBytes(bytes: number): string {
  let [value, unit] = [bytes, "bytes"];
  for (const next of ["KiB", "MiB", "GiB", "TiB"]) {
    if (value < 1024) break;
    [value, unit] = [value / 1024, next];
  }
  return `${value < 10 && unit !== "bytes" ? value.toFixed(1) : Math.round(value)} ${unit}`;
}
