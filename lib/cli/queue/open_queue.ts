// A command's time with the queue: the settings that lead to it, the queue, the terminal, and what is said when
// either is not as it should be.

import { type Config, readConfig } from "../../config/config.ts";
import { type Log, withoutSecrets } from "../../runtime/log.ts";
import { type Admin, QueueMissing, StoreUnavailable } from "../../queue/contract.ts";
import type { CommandResult } from "../command.ts";
import { complain } from "../output.ts";
import { type Terminal, terminalOf } from "../terminal.ts";
import { visible } from "../format.ts";
import { missingText, locationOf } from "./location.ts";

export interface QueueSession {
  readonly admin: Admin;
  readonly config: Config;
  /** Where the queue is, in words. */
  readonly place: string;
  readonly terminal: Terminal;
}

export const done: CommandResult = { kind: "exit", code: 0 };
export const failed: CommandResult = { kind: "exit", code: 1 };

/** Opens the queue for as long as `command` takes. */
export async function withQueue(
  command: (session: QueueSession) => Promise<CommandResult>,
): Promise<CommandResult> {
  const read = readConfig(process.env, "server");
  if (!read.ok) {
    complain(read.message);
    return { kind: "exit", code: 2 };
  }
  const { config } = read;
  const { queue } = config;
  const place = locationOf(queue);
  let trouble: string | undefined;
  let admin: Admin | undefined;
  // Not loaded before it is needed, so that other commands start quickly.
  const { openAdmin } = await import("../../queue/open.ts");
  try {
    admin = await openAdmin(
      queue,
      config.retainMs,
      troubleLog((reason) => (trouble = reason)),
    );
    return await command({ admin, config, place, terminal: terminalOf(process.env) });
  } catch (error) {
    if (error instanceof QueueMissing) {
      complain(missingText(queue));
      return failed;
    }
    if (!(error instanceof StoreUnavailable)) throw error;
    const reasons = new Set([error.message, ...(trouble === undefined ? [] : [trouble])]);
    complain(
      `The queue does not answer (${place}): ${visible(withoutSecrets([...reasons].join("; "), config.secrets))}`,
    );
    return failed;
  } finally {
    await admin?.close();
  }
}

/** Of what a store says to its log, the last reason that it does not work. */
function troubleLog(note: (reason: string) => void): Log {
  const listen: Log["warn"] = (_, fields) => {
    if (typeof fields?.["reason"] === "string") note(fields["reason"]);
  };
  return { debug() {}, info() {}, warn: listen, error: listen };
}
