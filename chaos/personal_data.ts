// Finds personal data in the service's logs. Every text in the emails of a run is recognizable.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileMark } from "./files.ts";

/** Matches a part of an address, name, subject, body, header, tag, file name or key. */
const personal = new RegExp(
  [
    "@example\\.",
    "@shop-",
    "@made-up",
    "@unverified",
    "Jane",
    "Shop №",
    "Email \\d",
    "Grüße",
    "東京",
    "Ωmega",
    "List-Unsubscribe",
    "chaos_number",
    "chaos-\\d+-\\d",
    fileMark,
  ].join("|"),
);

/** The log lines of servers and workers with personal data. */
export function findPersonal(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => /^(server|worker)-/.test(name))
    .flatMap((name) => readFileSync(join(folder, name), "utf8").split("\n").filter(isPersonal));
}

export function isPersonal(line: string): boolean {
  return personal.test(line);
}
