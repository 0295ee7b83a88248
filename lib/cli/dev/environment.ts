// The settings of `dev`: those of the environment, and for what it does not say, something that works and sends
// nothing for real.

import { type Config, credentialNames, readConfig } from "../../config.ts";
import type { LogLevel } from "../../log.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface DevSettings {
  readonly config: Config;
  /** For the server and the worker. */
  readonly env: Environment;
  /** Credentials that are there, and are kept from use. */
  readonly unused: readonly string[];
  /** The default sender is not one that somebody chose. */
  readonly inventedFrom: boolean;
  /** The lowest level of the log that is worth showing. */
  readonly shown: LogLevel;
}

export type DevSettingsResult =
  | { readonly ok: true; readonly settings: DevSettings }
  /** Every mistake, one a line. */
  | { readonly ok: false; readonly message: string };

export function devSettings(given: Environment): DevSettingsResult {
  const unused = given["PROVIDERS"]
    ? []
    : credentialNames.flatMap((name) => [name, `${name}_FILE`]).filter((name) => given[name]);
  const env: Record<string, string | undefined> = {
    ...given,
    PROVIDERS: given["PROVIDERS"] || "sandbox",
    DEFAULT_FROM: given["DEFAULT_FROM"] || "dev@example.com",
    // Even a provider without a share would still resolve the batches that it has. Empty, not absent: or else the
    // children would find it in .env again.
    ...Object.fromEntries(unused.map((name) => [name, ""])),
  };
  // As a worker, which checks all that a server does.
  const read = readConfig(env, "worker");
  if (!read.ok) return read;
  const { logLevel } = read.config;
  return {
    ok: true,
    settings: {
      config: read.config,
      // They must say at least that they have started.
      env: { ...env, LOG_LEVEL: logLevel === "debug" ? "debug" : "info" },
      unused,
      inventedFrom: !given["DEFAULT_FROM"],
      shown: given["LOG_LEVEL"] ? logLevel : "warn",
    },
  };
}
