// The command `dev`: a server, a worker and the web client in this process, with settings that work and send nothing
// for real.

import { existsSync, watch } from "node:fs";
import { join } from "node:path";
import { type Config, credentialNames, readConfig } from "../config/config.ts";
import { makeDir } from "../runtime/durable_dir.ts";
import { errorCode } from "../runtime/errors.ts";
import { createLog, type Log, type LogEntry, openStdout } from "../runtime/log.ts";
import { isSandbox, outboxIn, sandboxNames } from "../providers/registry.ts";
import { CannotStart, runService, type Service, type ServiceContext, urlOf } from "../runtime/service.ts";
import { defineCommand } from "./command.ts";
import { Failure } from "./output.ts";
import { locationOf } from "./queue/location.ts";

export interface DevSettings {
  readonly server: Config;
  readonly worker: Config;
  /** Credentials in the environment that are not used. */
  readonly unused: readonly string[];
  /** Nobody chose the default sender. */
  readonly inventedFrom: boolean;
  readonly warnings: readonly { readonly setting: string; readonly reason: string }[];
}

export const devCommand = defineCommand({
  name: "dev",
  summary: "runs everything locally: emails land in a folder, nothing is sent",
  about: `\
Runs a server, a worker and a web client until Ctrl-C, without any settings. It prints the address of the web client, each email as it arrives, and the warnings and errors of the log.

Settings in the environment apply. These have different defaults:

  PROVIDERS      sandbox,sandbox-2: each email becomes a file in
                 DATA_DIR/outbox, and when one is made to fail, the other takes
                 over. Keys of providers in the environment are not used unless
                 this is set.
  DEFAULT_FROM   dev@example.com
  RETRY_MAX      10s, so that nobody has to wait for long
  LOG_LEVEL      warn

ADMIN_PORT is the port for the server; the worker uses the next one. WEB_PORT is the port for the web client.`,
  options: {},
  async run() {
    const read = devSettings(process.env);
    if (!read.ok) throw new Failure(read.message, 2);
    await run(read.settings);
    return undefined;
  },
});

const portMax = 65_535;

/** The settings of an environment, or everything that is wrong with them. */
export function devSettings(
  given: NodeJS.ProcessEnv,
): { readonly ok: true; readonly settings: DevSettings } | { readonly ok: false; readonly message: string } {
  // Where only some senders are allowed, an invented one would not be among them.
  const inventedFrom = !given["DEFAULT_FROM"] && !given["ALLOWED_FROM"];
  const unused = given["PROVIDERS"]
    ? []
    : credentialNames.flatMap((name) => [name, `${name}_FILE`]).filter((name) => given[name]);
  const env = {
    ...given,
    PROVIDERS: given["PROVIDERS"] || sandboxNames.join(","),
    DEFAULT_FROM: given["DEFAULT_FROM"] || (inventedFrom ? "dev@example.com" : ""),
    RETRY_MAX: given["RETRY_MAX"] || (given["RETRY_BASE"] ? "" : "10s"),
    LOG_LEVEL: given["LOG_LEVEL"] || "warn",
    // Even a provider of weight 0 would still resolve the batches that it has.
    ...Object.fromEntries(unused.map((name) => [name, ""])),
  };
  // A worker checks everything that a server does, except for the ports.
  const worker = readConfig(env, "worker");
  if (!worker.ok) return worker;
  const server = readConfig(env, "server");
  if (!server.ok) return server;
  const { admin, ...rest } = worker.config;
  const port = server.config.admin?.port ?? 0;
  if (port === portMax) {
    return { ok: false, message: `Cannot start: ADMIN_PORT ${portMax} leaves none for the worker` };
  }
  const next = admin && { admin: { host: admin.host, port: port === 0 ? 0 : port + 1 } };
  const settings = { server: server.config, worker: { ...rest, ...next } };
  return { ok: true, settings: { ...settings, unused, inventedFrom, warnings: server.warnings } };
}

async function run(settings: DevSettings): Promise<void> {
  // Loaded here, so that other commands start quickly.
  const [{ startServer }, { startWorker }] = await Promise.all([
    import("../../server.ts"),
    import("../../worker.ts"),
  ]);
  const { server: config, worker: workerConfig, warnings } = settings;
  // One writer for all, since it may hold the rest of a line. A reader that stalls does not stop the service.
  const write = openStdout();
  const print = (text: string) => void write(`${text}\n`);
  const logOf = (name: string): Log =>
    createLog({
      level: config.logLevel,
      secrets: config.secrets,
      format: (entry) => formatEntry(name, entry),
      write,
    });
  const log = logOf("dev");
  for (const { setting, reason } of warnings) log.warn("setting-suspicious", { setting, reason });

  async function start({ onFatal }: ServiceContext<Config>): Promise<Service> {
    if (workerConfig.providers.some(({ name }) => isSandbox(name)))
      watchOutbox(outboxIn(config.dataDir), (path) => print(`→ ${path}`));
    // A server would share its port with another, and each would get some of the emails.
    const server = await startServer({ config, log: logOf("server"), onFatal, sharesPort: false });
    const worker = await startWorker({ config: workerConfig, log: logOf("worker"), onFatal });
    const web = await startWeb(workerConfig, server.port, logOf("web"));
    void worker.started.then((started) => {
      if (started) print(banner(settings, server.port, web?.address));
    });
    return {
      async drain() {
        print("Stopping");
        await Promise.all([server.drain(), worker.drain(), web?.drain()]);
      },
      hurry: () => server.hurry?.(),
    };
  }

  await runService(config, log, start);
}

/** Undefined if it is off. Loaded only now: the server listens already. */
async function startWeb(config: Config, serverPort: number, log: Log) {
  if (config.webPort === "") return undefined;
  const { startWebClient } = await import("../../clients/web/server.ts");
  return startWebClient({ config, log, serverPort });
}

/** A line of the log for people, such as `worker: warn store-connection-lost reason="…"`. */
export function formatEntry(name: string, entry: LogEntry): string {
  const { time: _, level, event, ...fields } = entry;
  const rest = Object.entries(fields).map(([field, value]) => {
    const text =
      typeof value === "string" && !/^[\w.:-]+$/.test(value) ? JSON.stringify(value) : String(value);
    return ` ${field}=${text}`;
  });
  return `${name}: ${level} ${event}${rest.join("")}`;
}

/** Calls back once for each email's file that appears in the sandbox's folder. Throws `CannotStart`. */
function watchOutbox(folder: string, onArrival: (path: string) => void): void {
  try {
    makeDir(folder);
  } catch (error) {
    throw new CannotStart(
      `DATA_DIR cannot hold the folder ${folder} (${errorCode(error) ?? "unknown error"})`,
    );
  }
  const seen = new Set<string>();
  const watcher = watch(folder, (_, name) => {
    if (name === null || name.startsWith(".") || !name.endsWith(".eml") || seen.has(name)) return;
    const path = join(folder, name);
    // It is also called when a file is removed.
    if (!existsSync(path)) return;
    seen.add(name);
    onArrival(path);
  });
  // After the folder is removed no more lines are printed, which are only a courtesy.
  watcher.on("error", () => watcher.close());
}

/**
 * The text that is printed once everything runs: where things are, and what to do first.
 * @param webAddress undefined if the web client is off
 */
export function banner(
  { server: config, worker, unused, inventedFrom }: DevSettings,
  port: number,
  webAddress?: string,
): string {
  const url = urlOf(config.host, port);
  const senders = worker.providers.filter(({ weight }) => weight > 0).map(({ name }) => name);
  const real = senders.filter((name) => !isSandbox(name)).join(" and ");
  const remarks = unused.map(
    (name) => `${name} is not used: nothing is sent for real unless PROVIDERS says so.`,
  );
  if (real !== "" && inventedFrom) {
    remarks.push(`The sender is ${config.defaultFrom}, which ${real} will refuse: set DEFAULT_FROM.`);
  }
  const lines = [`Listening   ${url}`];
  if (webAddress !== undefined) lines.push(`Web client  ${webAddress}`);
  if (senders.some(isSandbox)) lines.push(`Sent mail   ${outboxIn(config.dataDir)}/ (one .eml per email)`);
  if (real !== "") lines.push(`Sent mail   for real, by ${real}`);
  const embedded = config.queue.kind === "sqlite" ? "/ (embedded)" : "";
  lines.push(`Queue       ${locationOf(config.queue)}${embedded}`, "");
  if (remarks.length > 0) lines.push(...remarks, "");
  lines.push(
    config.apiTokens === undefined ? "Send an email:" : "Send an email, with one of API_TOKENS as TOKEN:",
    "",
    `  curl ${curlArguments(config)} ${url}`,
    "",
    "Ctrl-C stops everything.",
    "",
  );
  return lines.join("\n");
}

/** They send an email that the server accepts. */
function curlArguments({ apiTokens, defaultFrom, allowedFrom }: Config): string {
  const [allowed = "shop@example.com"] = allowedFrom ?? [];
  return [
    ...(apiTokens === undefined ? [] : ["-H 'Authorization: Bearer TOKEN'"]),
    "-d subject=Hi -d body=Hello -d to=jane@example.org",
    ...(defaultFrom === undefined ? [`-d from=${allowed.replace(/^@/, "dev@")}`] : []),
  ].join(" ");
}
