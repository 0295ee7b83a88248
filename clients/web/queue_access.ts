// Access to the queue: opened at the first request, and again after its loss.

import { type Config } from "../../lib/config/config.ts";
import { type Admin, QueueMissing, StoreUnavailable } from "../../lib/queue/contract.ts";
import { openAdmin } from "../../lib/queue/open.ts";
import { type Log, withoutSecrets } from "../../lib/runtime/log.ts";

// Failures reach the page as errors.
const silent: Log = { debug() {}, info() {}, warn() {}, error() {} };

export class QueueAccess {
  readonly config: Config;
  #admin: Promise<Admin> | undefined;

  constructor(config: Config) {
    this.config = config;
  }

  /** Rejects with `QueueMissing` or `StoreUnavailable`. */
  admin(): Promise<Admin> {
    const { queue, retainMs } = this.config;
    this.#admin ??= openAdmin(queue, retainMs, silent).catch((error: unknown) => {
      this.#admin = undefined;
      throw error;
    });
    return this.#admin;
  }

  async close(): Promise<void> {
    const admin = await this.#admin?.catch(() => undefined);
    this.#admin = undefined;
    await admin?.close();
  }

  /** Explains an error of the queue, without secrets, and reopens the queue later. Returns undefined for any other error. */
  async reasonOf(error: unknown): Promise<string | undefined> {
    if (error instanceof QueueMissing) return "There is no queue yet: start a server and a worker";
    if (!(error instanceof StoreUnavailable)) return undefined;
    await this.close().catch(() => {});
    return `The queue does not answer: ${withoutSecrets(error.message, this.config.secrets)}`;
  }
}
