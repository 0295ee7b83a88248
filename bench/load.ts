// The load generator of `submit`: wrk, which posts the same form over and over, each connection one at a time.

import { join } from "node:path";
import { form } from "./email.ts";

export interface LoadResult {
  readonly requests: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Requests without an answer, or answered with a status of 400 or more. */
  readonly errors: number;
}

export interface LoadOptions {
  readonly connections: number;
  /** May be a fraction, unlike those of wrk itself. */
  readonly seconds: number;
  /** Default: that of the benchmarks. */
  readonly body?: string;
}

/** No server needs so long for its first answer, s. */
const secondsMax = 20;

/** Takes longer if nothing is answered in that time, as happens if it is tiny and the machine is busy. */
export async function load(url: string, options: LoadOptions): Promise<LoadResult> {
  const result = await run(url, options);
  const isDone = result !== undefined && result.requests + result.errors > 0;
  if (isDone) return result;
  if (options.seconds > secondsMax) throw new Error(`no answer within ${options.seconds} s`);
  return load(url, { ...options, seconds: 2 * options.seconds });
}

/** Undefined if it was interrupted before it had begun. */
async function run(
  url: string,
  { connections, seconds, body = form }: LoadOptions,
): Promise<LoadResult | undefined> {
  const script = join(import.meta.dir, "load.lua");
  // It is interrupted earlier, and then reports as at its end.
  const longestSeconds = Math.ceil(seconds) + 1;
  const wrk = Bun.spawn(
    ["wrk", "-t1", `-c${connections}`, `-d${longestSeconds}s`, "--timeout", "30s", "-s", script, url],
    { env: { ...process.env, BENCH_FORM: body }, stdout: "pipe", stderr: "pipe" },
  );
  const timer = setTimeout(() => wrk.kill("SIGINT"), seconds * 1000);
  const [output, complaint] = await Promise.all([
    new Response(wrk.stdout).text(),
    new Response(wrk.stderr).text(),
    wrk.exited,
  ]);
  clearTimeout(timer);
  const [, ...numbers] = /RESULT (\d+) (\d+) ([\d.]+) ([\d.]+) (\d+)/.exec(output) ?? [];
  if (numbers.length === 0 && wrk.signalCode === "SIGINT") return undefined;
  if (numbers.length === 0) throw new Error(`wrk: no result: ${output}${complaint}`);
  const [requests = 0, micros = 0, p50 = 0, p99 = 0, errors = 0] = numbers.map(Number);
  return { requests, seconds: micros / 1e6, p50Ms: p50 / 1000, p99Ms: p99 / 1000, errors };
}
