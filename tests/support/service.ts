// The service as its users run it: real processes that can be killed.

import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename } from "node:path";
import type { Acceptance } from "../../fakes/ledger.ts";
import type { FaultRule } from "../../fakes/faults.ts";
import { atExit } from "./at_exit.ts";
import { eventually } from "./eventually.ts";
import { serviceCommand } from "./service_command.ts";

type Line = Readonly<Record<string, unknown>> & { readonly event?: string };

export interface Process {
  readonly pid: number;
  readonly lines: readonly Line[];
  /** Everything that it wrote to stdout. */
  readonly stdout: () => string;
  readonly stderr: () => string;
  readonly exited: Promise<number>;
  /** CPU time that it used until it exited, ms. */
  cpuMs(): number;
  /** Waits for a line of the log. */
  event(name: string): Promise<Line>;
  kill(signal?: NodeJS.Signals): Promise<number>;
  signal(signal: NodeJS.Signals): void;
}

const running = new Set<Bun.Subprocess>();
atExit(() => {
  for (const child of running) child.kill("SIGKILL");
});

/** Runs a file of the project with no environment except `env`, and without an admin port unless `env` has one. */
export function startProcess(file: string, env: Record<string, string> = {}, args: string[] = []): Process {
  return startCommand([...serviceCommand(file), ...args], {
    env: { PATH: process.env["PATH"] ?? "", ADMIN_PORT: "", ...env },
  });
}

/** Runs a command with no environment except `env`. */
export function startCommand(
  command: string[],
  options: { env?: Record<string, string>; cwd?: string; uid?: number; gid?: number } = {},
): Process {
  const file = command.map((part) => basename(part)).join(" ");
  const child = Bun.spawn(command, {
    env: {},
    // Outside the project, where the developer may have an .env file.
    cwd: tmpdir(),
    ...options,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  running.add(child);
  void child.exited.then(() => running.delete(child));
  const lines: Line[] = [];
  let stdout = "";
  let stderr = "";
  void (async () => {
    let rest = "";
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
      stdout += chunk;
      const whole = (rest + chunk).split("\n");
      rest = whole.pop() ?? "";
      for (const line of whole) lines.push(line.startsWith("{") ? JSON.parse(line) : { text: line });
    }
  })();
  void (async () => {
    for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) stderr += chunk;
  })();
  return {
    pid: child.pid,
    lines,
    stdout: () => stdout,
    stderr: () => stderr,
    exited: child.exited,
    cpuMs: () => Number(child.resourceUsage()?.cpuTime.total) / 1000,
    event: (name) =>
      eventually(
        () => `${file} says ${name} (${stderr})`,
        () => {
          const line = lines.find(({ event }) => event === name);
          if (line === undefined && child.exitCode !== null) {
            throw new Error(`${file} exited with ${child.exitCode} before it logged ${name}: ${stderr}`);
          }
          return line;
        },
      ),
    signal: (signal) => child.kill(signal),
    async kill(signal = "SIGKILL") {
      child.kill(signal);
      return child.exited;
    },
  };
}

export interface FakesProcess {
  readonly resendUrl: string;
  readonly postmarkUrl: string;
  fault(provider: "resend" | "postmark", rule: Omit<FaultRule, "when">): Promise<void>;
  settings(provider: "resend" | "postmark", settings: object): Promise<void>;
  clearFaults(): Promise<void>;
  acceptances(provider?: "resend" | "postmark"): Promise<Acceptance[]>;
  requests(provider: "resend" | "postmark"): Promise<{ method: string; target: string }[]>;
  stop(): Promise<unknown>;
}

/** Starts both fakes in a process that is never killed. */
export async function startFakes(): Promise<FakesProcess> {
  const child = startProcess("fakes/main.ts", {}, ["--quiet"]);
  const started = await eventually(
    () => `the fakes start (${child.stderr()})`,
    () => child.lines[0],
  );
  const urls = { resend: String(started["resend"]), postmark: String(started["postmark"]) };
  const post = async (url: string, body: unknown) => {
    const answer = await fetch(url, { method: "POST", body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
  };
  const get = async (url: string) => (await fetch(url)).json();
  return {
    resendUrl: urls.resend,
    postmarkUrl: urls.postmark,
    fault: (provider, rule) => post(`${urls[provider]}/_fake/faults`, rule),
    settings: (provider, settings) => post(`${urls[provider]}/_fake/settings`, settings),
    async clearFaults() {
      for (const url of Object.values(urls)) await fetch(`${url}/_fake/faults`, { method: "DELETE" });
    },
    async acceptances(provider) {
      const wanted = provider === undefined ? Object.values(urls) : [urls[provider]];
      return (await Promise.all(wanted.map((url) => get(`${url}/_fake/acceptances`)))).flat() as Acceptance[];
    },
    requests: async (provider) =>
      (await get(`${urls[provider]}/_fake/requests`)) as { method: string; target: string }[],
    stop: () => child.kill(),
  };
}

/**
 * Settings under which the service uses the fakes. Waits between attempts are short; limits that a busy machine could
 * exceed are not.
 */
export function settingsFor(
  queue: { readonly REDIS_URL: string } | { readonly DATA_DIR: string },
  fakes: FakesProcess,
  over: Record<string, string> = {},
): Record<string, string> {
  return {
    PORT: "0",
    ...queue,
    RESEND_API_KEY: "re_fake",
    RESEND_BASE_URL: fakes.resendUrl,
    POSTMARK_SERVER_TOKEN: "fake-token",
    POSTMARK_BASE_URL: fakes.postmarkUrl,
    POSTMARK_SEARCH_WAIT: "1s",
    DEFAULT_FROM: "shop@example.com",
    PROVIDER_TIMEOUT: "10s",
    LEASE: "20s",
    RETRY_BASE: "50ms",
    RETRY_MAX: "1s",
    ...over,
  };
}

/** The running children of a process. */
export function childrenOf(pid: number): number[] {
  const listed = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
  return listed.split(" ").filter(Boolean).map(Number);
}

/** Starts a server and waits until it listens. */
export async function startServer(env: Record<string, string>): Promise<Process & { readonly url: string }> {
  const server = startProcess("server.ts", env);
  const { port } = await server.event("server-listening");
  return { ...server, url: `http://127.0.0.1:${String(port)}/` };
}

export async function startWorker(env: Record<string, string>): Promise<Process> {
  const worker = startProcess("worker.ts", env);
  await worker.event("worker-started");
  return worker;
}

export interface Answer {
  readonly status: number;
  readonly ok?: boolean;
  readonly id?: string;
  readonly error_message?: string;
}

export async function post(
  url: string,
  fields: Record<string, string>,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(url, {
    method: "POST",
    body: new URLSearchParams(fields),
    headers,
    keepalive: false,
  });
  return { status: response.status, ...((await response.json()) as object) };
}
