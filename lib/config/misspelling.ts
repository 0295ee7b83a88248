// Names in the environment that are probably meant as a setting. Only names are looked at, never values. An environment
// is full of other programs' names, so only what is close to a setting's name is reported.

import { secretNames, settingNames } from "./settings.ts";

/** Names of up to this many letters are one letter away from other words: HOST from POST, PORT from SORT. */
const shortMax = 4;
/** From this many letters on, two typing errors are still unlikely to make another name. */
const longMin = 12;

export function findMisspelled(names: readonly string[]): { name: string; intended: string }[] {
  const known = [...settingNames, ...secretNames.map((name) => `${name}_FILE`)];
  return names.flatMap((name) => {
    if (known.includes(name)) return [];
    const intended =
      known.find((one) => isClose(name.toUpperCase(), one)) ?? known.find((one) => isShortened(name, one));
    return intended === undefined ? [] : [{ name, intended }];
  });
}

function isClose(name: string, known: string): boolean {
  if (known.length <= shortMax) return false;
  return isWithin(known.length >= longMin ? 2 : 1, name, known);
}

/** Whether words between the first and the last are missing, as in RESEND_KEY. */
function isShortened(name: string, known: string): boolean {
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
 * Whether at most `edits` letters must be inserted, deleted, replaced or swapped with their neighbor to turn `a` into
 * `b`: the optimal string alignment distance, after Damerau, "A technique for computer detection and correction of
 * spelling errors" (CACM, 1964).
 */
function isWithin(edits: number, a: string, b: string): boolean {
  let same = 0;
  while (same < a.length && a[same] === b[same]) same++;
  const [x, y] = [a.slice(same), b.slice(same)];
  if (x === "" && y === "") return true;
  if (edits === 0 || Math.abs(x.length - y.length) > edits) return false;
  return (
    isWithin(edits - 1, x.slice(1), y.slice(1)) ||
    isWithin(edits - 1, x.slice(1), y) ||
    isWithin(edits - 1, x, y.slice(1)) ||
    (x[0] === y[1] && x[1] === y[0] && isWithin(edits - 1, x.slice(2), y.slice(2)))
  );
}
