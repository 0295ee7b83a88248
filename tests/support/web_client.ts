// The web client as a developer has it: next to a server and a worker in `dev`, on free ports.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually, freePort } from "./eventually.ts";
import { childrenOf, startProcess } from "./service.ts";

export interface WebClient {
  /** The address that `dev` prints, with the token. */
  readonly address: string;
  /** Without a path. */
  readonly origin: string;
  readonly port: number;
  readonly token: string;
  /** The URL for submissions. */
  readonly serverUrl: string;
  readonly dataDir: string;
  /** Makes a request with the token. */
  ask(method: string, path: string, body?: unknown): Promise<Response>;
  /** Submits an email to the service, and returns its id. */
  submit(fields?: Record<string, unknown>): Promise<string>;
  stop(): Promise<void>;
}

/** Longest wait for `dev` to end by itself, ms. */
const stopMs = 30_000;

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}

/** @param env settings besides those that isolate it from the rest of the machine */
export async function startDev(env: Record<string, string> = {}): Promise<WebClient> {
  const dataDir = mkdtempSync(join(tmpdir(), "reliable-email-web-"));
  const admin = await freeAdminPorts();
  const settings = { PORT: "0", ADMIN_PORT: String(admin), WEB_PORT: "0", DATA_DIR: dataDir, ...env };
  const child = startProcess("lib/cli/main.ts", settings, ["dev"]);
  await eventually(
    () => `dev is up (${child.stdout()}${child.stderr()})`,
    () => child.stdout().includes("Ctrl-C"),
  ).catch(async (error: unknown) => {
    await child.kill();
    throw error;
  });
  const [, address = ""] = /^Web client {2}(\S+)$/m.exec(child.stdout()) ?? [];
  const [, serverUrl = ""] = /^Listening {3}(\S+)$/m.exec(child.stdout()) ?? [];
  return {
    ...clientAt(address, serverUrl),
    dataDir,
    async stop() {
      const hung = setTimeout(() => [child.pid, ...childrenOf(child.pid)].forEach(kill), stopMs);
      await child.kill("SIGTERM");
      clearTimeout(hung);
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

/** @param address as `dev` prints it */
export function clientAt(address: string, serverUrl: string) {
  const { origin, port, hash } = new URL(address);
  const token = hash.slice(1);
  return {
    address,
    origin,
    port: Number(port),
    token,
    serverUrl,
    ask: (method: string, path: string, body?: unknown) =>
      fetch(`${origin}${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      }),
    async submit(fields: Record<string, unknown> = {}) {
      const email = { subject: "Hi", body: "Hello", to: "jane@example.org", ...fields };
      const response = await fetch(serverUrl, {
        method: "POST",
        body: JSON.stringify(email),
        headers: { "content-type": "application/json" },
      });
      return String(((await response.json()) as { readonly id: string }).id);
    },
  };
}

/** A free port whose successor, for the worker, is free as well. */
async function freeAdminPorts(): Promise<number> {
  for (;;) {
    const port = await freePort();
    if ((await freePort()) === port + 1) return port;
  }
}
