// The settings of `dev`: those of the environment, and for what it does not say, something that works and sends
// nothing for real.

import { type Config, credentialNames, readConfig, type Role } from "../../config/config.ts";
import type { LogLevel } from "../../runtime/log.ts";

export type DevEnvironment = Readonly<Record<string, string | undefined>>;

const portMax = 65_535;

export interface DevSettings {
  readonly config: Config;
  /** For the server and the worker, but for their admin ports. */
  readonly env: DevEnvironment;
  /** None if they are not wanted. */
  readonly admin?: { readonly host: string; readonly ports: Readonly<Record<Role, number>> };
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

export function devSettings(given: DevEnvironment): DevSettingsResult {
  // Where only some senders are allowed, it would not be among them.
  const inventedFrom = !given["DEFAULT_FROM"] && !given["ALLOWED_FROM"];
  const unused = given["PROVIDERS"]
    ? []
    : credentialNames.flatMap((name) => [name, `${name}_FILE`]).filter((name) => given[name]);
  const env: Record<string, string | undefined> = {
    ...given,
    PROVIDERS: given["PROVIDERS"] || "sandbox",
    DEFAULT_FROM: given["DEFAULT_FROM"] || (inventedFrom ? "dev@example.com" : ""),
    // Even a provider without a share would still resolve the batches that it has. Empty, not absent: or else the
    // children would find it in .env again.
    ...Object.fromEntries(unused.map((name) => [name, ""])),
  };
  // As a worker, which checks all that a server does.
  const read = readConfig(env, "worker");
  if (!read.ok) return read;
  // And as a server, of which only the ports are another matter.
  const readAsServer = readConfig(env, "server");
  if (!readAsServer.ok) return readAsServer;
  const admin = adminOf(readAsServer.config);
  if (admin !== undefined && admin.ports.worker > portMax) {
    return { ok: false, message: `Cannot start: ADMIN_PORT ${portMax} leaves none for the worker` };
  }
  const { logLevel } = read.config;
  return {
    ok: true,
    settings: {
      config: read.config,
      // They must say at least that they have started.
      env: { ...env, LOG_LEVEL: logLevel === "debug" ? "debug" : "info" },
      ...(admin !== undefined && { admin }),
      unused,
      inventedFrom,
      shown: given["LOG_LEVEL"] ? logLevel : "warn",
    },
  };
}

/** The worker's is the one after the server's, as it is without settings. */
function adminOf({ admin }: Config): DevSettings["admin"] {
  if (admin === undefined) return undefined;
  const { host, port } = admin;
  return { host, ports: { server: port, worker: port === 0 ? 0 : port + 1 } };
}
