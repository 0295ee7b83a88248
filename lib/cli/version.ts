// What --version says.

import { build } from "../runtime/version.ts";

export function versionLine(): string {
  const { name, version, commit, bun } = build;
  return `${name} ${version} (${commit === undefined ? "from sources" : `commit ${commit}`}, bun ${bun})`;
}
