// How times, numbers and states are written.

import type { State } from "../protocol.ts";
import { element } from "./dom.ts";

/** The store's clock minus the browser's, ms. */
let offsetMs = 0;

export function setClock(nowMs: number): void {
  offsetMs = nowMs - Date.now();
}

const units: readonly (readonly [Intl.RelativeTimeFormatUnit, number])[] = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
  ["second", 1000],
];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "always", style: "narrow" });
const absolute = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "medium" });
const numbers = new Intl.NumberFormat("en");

/** `5s ago`, `in 2h`, `now`. */
function formatAge(atMs: number): string {
  const ms = atMs - (Date.now() + offsetMs);
  const [unit, size] = units.find(([, one]) => Math.abs(ms) >= one) ?? ["second", 1000];
  const count = Math.trunc(ms / size);
  return count === 0 ? "now" : relative.format(count, unit);
}

/** A relative time, which {@link tick} updates. @param at ISO 8601 */
export function time(at: string): HTMLTimeElement {
  const shown = element("time", { datetime: at, title: absolute.format(new Date(at)) });
  shown.textContent = formatAge(Date.parse(at));
  return shown;
}

/** An absolute time, followed by the relative one. */
export function wholeTime(at: string): HTMLElement {
  return element("span", {}, absolute.format(new Date(at)), ", ", time(at));
}

/** Updates every relative time on the page. */
export function tick(): void {
  for (const shown of document.querySelectorAll("time")) {
    const text = formatAge(Date.parse(shown.dateTime));
    if (shown.textContent !== text) shown.textContent = text;
  }
}

export function number(count: number): string {
  return numbers.format(count);
}

/** `1 email`, `1,024 emails`. */
export function counted(count: number, noun: string): string {
  return `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
}

export function bytes(count: number): string {
  const [size, unit] =
    count < 1024 ? [count, "bytes"] : count < 1_048_576 ? [count / 1024, "KiB"] : [count / 1_048_576, "MiB"];
  return `${size < 10 && unit !== "bytes" ? size.toFixed(1) : Math.round(size)} ${unit}`;
}

export const states: readonly State[] = [
  "scheduled",
  "waiting",
  "retrying",
  "sending",
  "in-doubt",
  "sent",
  "dead",
];

/** `In doubt` for `in-doubt`. */
export function wordOf(state: string): string {
  return state.charAt(0).toUpperCase() + state.slice(1).replace("-", " ");
}

/** A state as a word in its own quiet color. */
export function stateWord(state: string): HTMLElement {
  return element("span", { class: "word", "data-state": state }, wordOf(state));
}
