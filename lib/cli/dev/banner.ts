// What `dev` says once everything runs: where things are, and what to do first.

import type { Config } from "../../config/config.ts";
import { outboxIn } from "../../providers/registry.ts";
import { redisAddress } from "../../runtime/redis_url.ts";
import type { DevSettings } from "./settings.ts";

export function banner({ config, unused, inventedFrom }: DevSettings, port: number): string {
  const url = urlOf(config.host, port);
  const senders = config.providers.filter(({ weight }) => weight > 0).map(({ name }) => name);
  const real = senders.filter((name) => name !== "sandbox").join(" and ");
  const outbox = senders.includes("sandbox") ? outboxIn(config.dataDir) : undefined;
  const remarks = [
    ...unused.map((name) => `${name} is not used: nothing is sent for real unless PROVIDERS says so.`),
    ...(real !== "" && inventedFrom
      ? [`The sender is ${config.defaultFrom}, which ${real} will refuse: set DEFAULT_FROM.`]
      : []),
  ];
  return [
    `Listening   ${url}`,
    ...(outbox === undefined ? [] : [`Sent mail   ${outbox}/ (one .eml per email)`]),
    ...(real === "" ? [] : [`Sent mail   for real, by ${real}`]),
    `Queue       ${queueOf(config)}`,
    "",
    ...(remarks.length === 0 ? [] : [...remarks, ""]),
    config.apiTokens === undefined ? "Send an email:" : "Send an email, with one of API_TOKENS as TOKEN:",
    "",
    `  curl ${argumentsOf(config)} ${url}`,
    "",
    "Ctrl-C stops everything.",
    "",
  ].join("\n");
}

/** An address at which this machine reaches what listens on `host`. */
function urlOf(host: string, port: number): string {
  const reached = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  return `http://${reached.includes(":") ? `[${reached}]` : reached}:${port}`;
}

/** Of curl, for an email that is accepted. */
function argumentsOf({ apiTokens, defaultFrom, allowedFrom }: Config): string {
  const [allowed = "shop@example.com"] = allowedFrom ?? [];
  return [
    ...(apiTokens === undefined ? [] : ["-H 'Authorization: Bearer TOKEN'"]),
    "-d subject=Hi -d body=Hello -d to=jane@example.org",
    ...(defaultFrom === undefined ? [`-d from=${allowed.replace(/^@/, "dev@")}`] : []),
  ].join(" ");
}

function queueOf({ queue }: Config): string {
  if (queue.kind === "sqlite") return `${queue.folder}/ (embedded)`;
  return `Redis at ${redisAddress(queue.url)}, keys under ${queue.prefix}`;
}
