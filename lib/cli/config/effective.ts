// Every setting as it holds, where it comes from, and nothing of it that is secret.

import { resolve } from "node:path";
import { adminPorts, type Config, secretNames } from "../../config.ts";
import { settings } from "../../settings.ts";

export type Environment = Readonly<Record<string, string | undefined>>;
export type SettingName = keyof typeof settings.entries;

export interface EffectiveSetting {
  readonly name: SettingName;
  /** As it would be written; undefined if there is none. */
  readonly value: string | undefined;
  readonly source: "default" | "environment" | "file";
  /** Where its value was read from: what `NAME_FILE` says. */
  readonly file: string | undefined;
}

const hidden = "[secret]";

/** @param config what was read out of `env` */
export function effectiveSettings(env: Environment, config: Config): EffectiveSetting[] {
  return (Object.keys(settings.entries) as SettingName[]).map((name) => {
    const file = isSecret(name) ? env[`${name}_FILE`] || undefined : undefined;
    // Empty is none, but where it switches something off.
    const given = isSwitch(name) ? env[name] : env[name] || undefined;
    const source = file !== undefined ? "file" : given !== undefined ? "environment" : "default";
    return { name, value: valueOf(name, given, config), source, file };
  });
}

const isSwitch = (name: SettingName) => name === "ADMIN_HOST" || name === "ADMIN_PORT";

function isSecret(name: SettingName): boolean {
  return secretNames.some((secret) => secret === name);
}

function valueOf(name: SettingName, given: string | undefined, config: Config): string | undefined {
  switch (name) {
    case "API_TOKENS":
      return config.apiTokens?.map(() => hidden).join(",");
    case "RESEND_API_KEY":
      return config.resend && hidden;
    case "POSTMARK_SERVER_TOKEN":
      return config.postmark && hidden;
    case "REDIS_URL":
      return config.queue.kind === "redis" ? withoutPassword(config.queue.url) : undefined;
    case "ADMIN_PORT":
      return given ?? `${adminPorts.server} (server), ${adminPorts.worker} (worker)`;
    case "DATA_DIR":
      return resolve(given ?? defaultOf(name)!);
    case "PROVIDERS":
      return config.providers.map((one) => `${one.name}:${one.weight}`).join(",") || given;
    default:
      return given ?? defaultOf(name);
  }
}

/** Not by the parts of a URL: what is shown is what was written. */
function withoutPassword(url: string): string {
  return url.replace(/^(\w+:\/\/[^/?#]*?:)[^/?#]*@/, `$1${hidden}@`);
}

function defaultOf(name: SettingName): string | undefined {
  const entry = settings.entries[name];
  return "default" in entry && typeof entry.default === "string" ? entry.default : undefined;
}
