// Names in the environment that are probably meant to be a setting's. Names alone are looked at, never values. A name is
// reported only if it is close to a setting's: an environment is full of other programs' names.

import { secretNames, settingNames } from "./settings.ts";

/** Names that are meant to be `meant`, in all likelihood. */
export function misspelledSettings(names: readonly string[]): { name: string; meant: string }[] {
  const known = [...settingNames, ...secretNames.map((name) => `${name}_FILE`)];
  return names.flatMap((name) => {
    if (known.includes(name)) return [];
    const meant =
      known.find((one) => isClose(name.toUpperCase(), one)) ?? known.find((one) => isShortened(name, one));
    return meant === undefined ? [] : [{ name, meant }];
  });
}

/** Names of so many letters are a word of their own with one letter changed: HOST is POST, PORT is SORT. */
const shortMax = 4;
/** From so many letters on, two slips are still unlikely to be another name. */
const longMin = 12;

function isClose(name: string, known: string): boolean {
  if (known.length <= shortMax) return false;
  return slipsBetween(name, known) <= (known.length >= longMin ? 2 : 1);
}

/** Words left out between the first and the last, as in RESEND_KEY. */
function isShortened(name: string, known: string): boolean {
  // What all files have in common says nothing about what is meant.
  const file = /_FILE$/;
  if (file.test(name) !== file.test(known)) return false;
  const words = name.replace(file, "").split("_");
  const all = known.replace(file, "").split("_");
  if (words.length < 2 || words.length >= all.length) return false;
  if (words[0] !== all[0] || words.at(-1) !== all.at(-1)) return false;
  let from = 0;
  return words.every((word) => (from = all.indexOf(word, from) + 1) > 0);
}

/**
 * Letters to insert, delete, replace or swap with their neighbor: the optimal string alignment distance, after
 * Damerau, "A technique for computer detection and correction of spelling errors" (CACM, 1964).
 */
function slipsBetween(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return Number.POSITIVE_INFINITY;
  const rows = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const [above, twoAbove] = [rows[i - 1]!, rows[i - 2]];
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let least = Math.min(above[j]! + 1, row[j - 1]! + 1, replaced);
      if (twoAbove !== undefined && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        least = Math.min(least, (twoAbove[j - 2] ?? Number.POSITIVE_INFINITY) + 1);
      }
      row.push(least);
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}
