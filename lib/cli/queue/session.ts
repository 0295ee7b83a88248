// A command's access to the queue, and what is reported when the queue cannot be used.

import { readFileSync } from "node:fs";
import { parseEnv } from "node:util";
import { type Config, readConfig } from "../../config/config.ts";
import { type Admin, type StoredEmail, QueueMissing, StoreUnavailable } from "../../queue/contract.ts";
import { describe, errorCode } from "../../runtime/errors.ts";
import { silentLog, withoutSecrets } from "../../runtime/log.ts";
import { type ExitCode, flag } from "../command.ts";
import { Failure } from "../output.ts";
import { type Terminal, terminalOf } from "../terminal.ts";
import type { ListedState } from "./email_fields.ts";
import { locationOf, missingText } from "./location.ts";

export interface QueueSession {
  readonly admin: Admin;
  readonly config: Config;
  /** Where the queue is, in words. */
  readonly location: string;
  readonly terminal: Terminal;
}

export const jsonFlag = flag("prints one JSON document; docs/json-output.md describes it");

/**
 * Opens the queue for as long as `command` takes. Throws {@link Failure} if it cannot be used.
 * @param file an environment file to use instead of the environment
 */
export async function withQueue(
  command: (session: QueueSession) => Promise<ExitCode>,
  file?: string,
): Promise<ExitCode> {
  const read =
    file === undefined ? readConfig(process.env, "server") : readConfig(readEnvFile(file), "server");
  if (!read.ok) throw new Failure(file === undefined ? read.message : `In ${file}: ${read.message}`, 2);
  const { config } = read;
  // Loaded only when needed, so that other commands start quickly.
  const { openAdmin } = await import("../../queue/open.ts");
  let admin: Admin | undefined;
  try {
    admin = await openAdmin(config.queue, config.retainMs, silentLog);
    return await command({
      admin,
      config,
      location: locationOf(config.queue),
      terminal: terminalOf(process.env),
    });
  } catch (error) {
    if (error instanceof QueueMissing) throw new Failure(missingText(config.queue));
    if (error instanceof StoreUnavailable) throw new Failure(lossText(error, config));
    throw error;
  } finally {
    await admin?.close();
  }
}

function readEnvFile(path: string): NodeJS.Dict<string> {
  try {
    return parseEnv(readFileSync(path, "utf8"));
  } catch (error) {
    throw new Failure(`${path} cannot be read (${errorCode(error) ?? describe(error).reason})`, 2);
  }
}

/** The message on stderr about a store that does not answer. */
export function lossText({ message }: StoreUnavailable, { queue, secrets }: Config): string {
  return `The queue does not answer (${locationOf(queue)}): ${withoutSecrets(message, secrets)}`;
}

/** Most emails that one call may ask for. */
export const pageMax = 1000;

/** The emails in one state, page by page; no page is empty. */
export async function* pagesOf(
  admin: Admin,
  state: ListedState,
  limit = Number.POSITIVE_INFINITY,
  order: "oldest" | "newest" = "oldest",
): AsyncGenerator<readonly StoredEmail[]> {
  let left = limit;
  for (let from: string | undefined; left > 0;) {
    const { emails, next } = await admin.list(state, Math.min(left, pageMax), from, order);
    left -= emails.length;
    if (emails.length > 0) yield emails;
    if (next === undefined) return;
    from = next;
  }
}

/**
 * The dead letters that died by `atMs`, page by page. Later deaths, perhaps second ones, are left out: otherwise the
 * walk might never end.
 */
export async function* deadPages(admin: Admin, atMs: number): AsyncGenerator<readonly StoredEmail[]> {
  for await (const emails of pagesOf(admin, "dead")) {
    const before = emails.filter((email) => (email.atMs ?? 0) <= atMs);
    yield before;
    if (before.length < emails.length) return;
  }
}
