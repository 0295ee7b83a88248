// Whether the service's logs hold anything personal: what every email of a run has in it can be told from anything else.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileMark } from "./files.ts";

/** A piece of an address, a name, a subject, a body, a header, a tag, a file's name or a key. */
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

/** The lines of the servers and workers that hold something personal. */
export function findPersonal(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => /^(server|worker)-/.test(name))
    .flatMap((name) => readFileSync(join(folder, name), "utf8").split("\n").filter(isPersonal));
}

export function isPersonal(line: string): boolean {
  return personal.test(line);
}
