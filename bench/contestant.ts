// The programs that are measured, each in a process of its own, with a store of its own. Those in bench/peers use
// packages of their own, which are installed when they are needed first.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Process, startCommand, startProcess } from "../tests/support/service.ts";
import { startStore, type Store, type StoreKind } from "./store.ts";

export interface Contestant {
  readonly name: string;
  /** From the project's root. */
  readonly file: string;
  /** Default: this Bun. */
  readonly runtime?: "node";
  readonly env?: Readonly<Record<string, string>>;
  readonly store?: StoreKind;
  /** Emails in the store that it uses, except those that were sent. */
  readonly count?: (store: Store) => number | Promise<number>;
  /** Stores emails for it to send. */
  readonly fill?: (store: Store, emails: number) => Promise<void>;
}

export interface Running {
  readonly process: Process;
  /** Absent if it stores nothing. */
  readonly store: Store | undefined;
  stop(): Promise<void>;
}

const root = join(import.meta.dir, "..");

/** @param store used instead of a new one, and not stopped */
export async function startContestant(
  { file, runtime, env, store: kind }: Contestant,
  more: Readonly<Record<string, string>> = {},
  given?: Store,
): Promise<Running> {
  const store = given ?? (kind && (await startStore(kind)));
  const all = { PORT: "0", DEFAULT_FROM: "shop@example.com", ...store?.env, ...env, ...more };
  const process =
    runtime === "node"
      ? startCommand(["node", join(root, file)], { env: { ...all, NODE_ENV: "production" } })
      : startProcess(file, all);
  return {
    process,
    store,
    async stop() {
      await process.kill();
      if (store !== given) await store?.stop();
    },
  };
}

const peersFolder = join(import.meta.dir, "peers");
export const isPeer = ({ file }: Contestant) => file.startsWith("bench/peers/");

export function hasPeers(folder = peersFolder): boolean {
  return existsSync(join(folder, "node_modules", ".package-lock.json"));
}

/** Installs the peers' packages if they are missing. Returns why they cannot be used, if so. */
export function installPeers(folder = peersFolder): string | undefined {
  if (hasPeers(folder)) return undefined;
  const command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0"];
  const { exitCode, stderr } = Bun.spawnSync(command, { cwd: folder, stdout: "ignore", stderr: "pipe" });
  if (exitCode === 0) return undefined;
  const reason = /^npm error (?!code)(.*)/m.exec(stderr.toString())?.[1] ?? `exit code ${exitCode}`;
  return `without BullMQ: its packages could not be installed (npm ci in bench/peers: ${reason})`;
}
