// A command's access to the queue, and what is reported when the queue cannot be used.

import { readFileSync } from "node:fs";
import { parseEnv } from "node:util";
import { type Config, readConfig } from "../../config/config.ts";
import {
  type Admin,
  PartitionUnreached,
  QueueMissing,
  type StoredEmail,
  StoreUnavailable,
} from "../../queue/contract.ts";
import { describe, errorCode } from "../../runtime/errors.ts";
import { silentLog, withoutSecrets } from "../../runtime/log.ts";
import { type ExitCode, flag } from "../command.ts";
import { complain, Failure } from "../output.ts";
import { type Terminal, terminalOf } from "../terminal.ts";
import type { ListedState } from "./email_fields.ts";
import { locationOf, missingText } from "./location.ts";
import { UnreachedPartitions } from "./unreached.ts";

export interface QueueSession {
  readonly admin: Admin;
  readonly config: Config;
  /** Where the queue is, in words. */
  readonly location: string;
  readonly terminal: Terminal;
  /** Partitions without which the command goes on. */
  readonly unreached: UnreachedPartitions;
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
  const unreached = new UnreachedPartitions(config.secrets);
  let admin: Admin | undefined;
  try {
    admin = await openAdmin(config.queue, config.retainMs, silentLog);
    const code = await command({
      admin,
      config,
      location: locationOf(config.queue),
      terminal: terminalOf(process.env),
      unreached,
    });
    for (const line of unreached.lines) complain(line);
    return unreached.lines.length === 0 ? code : 1;
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

/** Goes through all pages of something. */
export async function* walk<Page extends { readonly next: string | undefined }>(
  read: (from: string | undefined) => Promise<Page>,
): AsyncGenerator<Page> {
  let from: string | undefined;
  do {
    const page = await read(from);
    yield page;
    from = page.next;
  } while (from !== undefined);
}

/** The emails in one state, page by page; no page is empty. */
export async function* pagesOf(
  { admin, unreached }: Pick<QueueSession, "admin" | "unreached">,
  state: ListedState,
  limit = Number.POSITIVE_INFINITY,
  order: "oldest" | "newest" = "oldest",
): AsyncGenerator<readonly StoredEmail[]> {
  let left = limit;
  const pages = walk((from) => admin.list(state, Math.min(left, pageMax), from, order));
  for await (const page of pages) {
    const { emails } = unreached.note(page);
    if (emails.length > 0) yield emails;
    left -= emails.length;
    if (left <= 0) return;
  }
}

/**
 * The dead letters that died by `atMs`, page by page. Later deaths, perhaps second ones, are left out: otherwise the
 * walk might never end.
 */
export async function* deadPages(
  session: Pick<QueueSession, "admin" | "unreached">,
  atMs: number,
): AsyncGenerator<readonly StoredEmail[]> {
  for await (const emails of pagesOf(session, "dead")) {
    const before = emails.filter((email) => (email.atMs ?? 0) <= atMs);
    // A page has emails of each partition, and one of them may have only later deaths.
    if (before.length === 0) return;
    yield before;
  }
}

/** The state of an email, also if it is unknown, or its partition does not answer. */
export async function stateOf(
  admin: Admin,
  id: string,
): Promise<StoredEmail["state"] | "unknown" | "unreached"> {
  try {
    return (await admin.show(id))?.state ?? "unknown";
  } catch (error) {
    if (error instanceof PartitionUnreached) return "unreached";
    throw error;
  }
}
