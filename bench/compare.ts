// Comparisons within one run: the cases are measured in turn, round after round, since the machine may be slower in one
// of them. A measurement that does not count makes its row invalid, visibly.

import { type Cell, figure, type Row } from "./table.ts";

export type Sample =
  /** By column. */
  | { readonly ok: true; readonly numbers: Readonly<Record<string, number>> }
  | { readonly ok: false; readonly fault: string };

export interface Case {
  /** The columns that say what it is. */
  readonly labels: Row;
  /** The first of a group is the one that its others are compared with. */
  readonly group: string | number;
  measure(): Promise<Sample>;
}

/**
 * A row for each case.
 * @param options.rate the column of which the ratio to the first of the group is the column `times ours`
 */
export async function compare(
  cases: readonly Case[],
  { rounds, rate }: { readonly rounds: number; readonly rate: string },
): Promise<Row[]> {
  const samples = new Map(cases.map((one): [Case, Sample[]] => [one, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const [one, own] of samples) own.push(await measureSafely(one));
  }
  return cases.map((one) => {
    const reference = cases.find(({ group }) => group === one.group)!;
    return { ...one.labels, ...summarize(samples.get(one)!, samples.get(reference)!, rate) };
  });
}

async function measureSafely(one: Case): Promise<Sample> {
  try {
    return await one.measure();
  } catch (error) {
    return { ok: false, fault: error instanceof Error ? error.message : String(error) };
  }
}

function summarize(samples: readonly Sample[], reference: readonly Sample[], rate: string): Row {
  const fault = samples.find((sample) => !sample.ok);
  if (fault !== undefined && !fault.ok) return { [rate]: `INVALID: ${fault.fault}` };
  const valuesOf = (all: readonly Sample[], column: string) =>
    all.map((sample) => (sample.ok ? sample.numbers[column]! : Number.NaN));
  const [first] = samples;
  const row: Record<string, Cell> = {};
  for (const column of first?.ok ? Object.keys(first.numbers) : []) {
    row[column] = figure(valuesOf(samples, column));
  }
  if (reference.every(({ ok }) => ok)) {
    const others = valuesOf(reference, rate);
    row["times ours"] = figure(valuesOf(samples, rate).map((value, i) => value / others[i]!));
  }
  return row;
}
