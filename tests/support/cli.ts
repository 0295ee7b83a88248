// Runs commands of the executable, with or without a terminal.

import { tmpdir } from "node:os";
import { eventually } from "./eventually.ts";
import { serviceCommand } from "./service_command.ts";

export const cliCommand = (...args: readonly string[]): string[] => [
  ...serviceCommand("lib/cli/main.ts"),
  ...args,
];

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command with no environment except `env`, in a folder without an .env file. */
export async function runCli(env: Readonly<Record<string, string>>, ...args: string[]): Promise<Ran> {
  const child = Bun.spawn(cliCommand(...args), {
    cwd: tmpdir(),
    env: { PATH: process.env["PATH"] ?? "", ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { code, stdout, stderr };
}

/** The document that a command prints with --json. Fails unless its exit code is the one expected. */
// oxlint-disable-next-line typescript/no-explicit-any
export async function jsonOfCli(
  env: Readonly<Record<string, string>>,
  args: string[],
  code = 0,
): Promise<any> {
  const ran = await runCli(env, ...args, "--json");
  if (ran.code !== code) throw new Error(`${args.join(" ")}: exit code ${ran.code}: ${ran.stderr}`);
  return JSON.parse(ran.stdout);
}

/** Runs a command in its own terminal; the output combines stdout and stderr. */
export function cliInTerminal(env: Readonly<Record<string, string>>, args: string[], columns = 100) {
  let shown = "";
  const child = Bun.spawn(cliCommand(...args), {
    cwd: tmpdir(),
    env: { PATH: process.env["PATH"] ?? "", TERM: "xterm", ...env },
    terminal: {
      cols: columns,
      data(_, bytes) {
        shown += new TextDecoder().decode(bytes).replaceAll("\r\n", "\n");
      },
    },
  });
  return {
    shown: () => shown,
    exited: child.exited,
    type: (text: string) => child.terminal!.write(text),
    prints: (text: string) =>
      eventually(
        () => `it prints ${text} (${shown})`,
        () => shown.includes(text),
      ),
  };
}
