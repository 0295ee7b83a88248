// Every setting as it holds, where it comes from, and nothing of it that is secret.

import { resolve } from "node:path";
import { adminPorts, type Config } from "../../config/config.ts";
import { defaultOf, masked, secretNames, settingNames, type SettingName } from "../../config/settings.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface EffectiveSetting {
  readonly name: SettingName;
  /** As it would be written; undefined if there is none. */
  readonly value: string | undefined;
  readonly source: "default" | "environment" | "file";
  /** Where its value was read from: what `NAME_FILE` says. */
  readonly file: string | undefined;
}

/** @param read what was read out of `env` */
export function effectiveSettings(
  env: Environment,
  { config, given }: { readonly config: Config; readonly given: Readonly<Record<string, string>> },
): EffectiveSetting[] {
  return settingNames.map((name) => {
    const file = secretNames.includes(name) ? env[`${name}_FILE`] || undefined : undefined;
    const written = given[name];
    const source = file !== undefined ? "file" : written !== undefined ? "environment" : "default";
    const value = inEffect[name]?.(config, written) ?? written ?? defaultOf(name);
    return { name, value: value === undefined ? undefined : masked(name, value), source, file };
  });
}

/** Those whose effect is not seen in what is written, or whose default depends on other settings. */
const inEffect: {
  readonly [name in SettingName]?: (config: Config, written: string | undefined) => string | undefined;
} = {
  ADMIN_PORT: (_, written) => written ?? `${adminPorts.server} (server), ${adminPorts.worker} (worker)`,
  DATA_DIR: (_, written) => resolve(written ?? defaultOf("DATA_DIR")!),
  PROVIDERS: ({ providers }) => providers.map((one) => `${one.name}:${one.weight}`).join(",") || undefined,
};
