// Counts the fsyncs of a process with strace.

import { existsSync, readFileSync } from "node:fs";
import { eventually } from "./eventually.ts";

const scopeFile = "/proc/sys/kernel/yama/ptrace_scope";
const isOpen = !existsSync(scopeFile) || readFileSync(scopeFile, "utf8").trim() === "0";

/** Many kernels let only root trace a process that is not its child. */
export const canTrace = Bun.which("strace") !== null && (process.getuid?.() === 0 || isOpen);

/** The fsyncs of a process while `body` runs. Needs {@link canTrace}. */
export async function countFsyncs(pid: number, body: () => Promise<void>): Promise<number> {
  const command = ["strace", "-f", "-c", "-e", "trace=fsync,fdatasync", "-p", String(pid)];
  const strace = Bun.spawn(command, { stdout: "ignore", stderr: "pipe" });
  let output = "";
  const ended = (async () => {
    for await (const chunk of strace.stderr.pipeThrough(new TextDecoderStream())) output += chunk;
  })();
  await eventually(
    () => `strace attaches: ${output}`,
    () => output.includes("attached"),
  );
  await body();
  strace.kill("SIGINT");
  await ended;
  const rows = output.matchAll(/^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(?:fsync|fdatasync)$/gm);
  return [...rows].reduce((sum, [, calls]) => sum + Number(calls), 0);
}
