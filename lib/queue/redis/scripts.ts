// The Lua scripts of the queue. The first line of each file says when Redis runs it: `allow-oom` even when `maxmemory` is
// reached, for all that makes the queue shorter or leads to that; `no-writes` even when Redis refuses all writes.
// common.lua is inserted behind that line.

import claim from "./scripts/claim.lua" with { type: "text" };
import clear from "./scripts/clear.lua" with { type: "text" };
import common from "./scripts/common.lua" with { type: "text" };
import deleteText from "./scripts/delete.lua" with { type: "text" };
import housekeeping from "./scripts/housekeeping.lua" with { type: "text" };
import list from "./scripts/list.lua" with { type: "text" };
import pause from "./scripts/pause.lua" with { type: "text" };
import permissions from "./scripts/permissions.lua" with { type: "text" };
import retry from "./scripts/retry.lua" with { type: "text" };
import settle from "./scripts/settle.lua" with { type: "text" };
import stats from "./scripts/stats.lua" with { type: "text" };
import submit from "./scripts/submit.lua" with { type: "text" };

export interface Script {
  readonly text: string;
  readonly sha: string;
  /** The commands of Redis that it calls. */
  readonly commands: readonly string[];
}

function createScript(source: string, preamble: string): Script {
  const text = source.replace("\n", () => `\n${preamble}`);
  const commands = new Set(Array.from(text.matchAll(/call\('([A-Z]+)'/g), ([, name = ""]) => name));
  return { text, sha: new Bun.CryptoHasher("sha1").update(text).digest("hex"), commands: [...commands] };
}

export const scripts = {
  submit: createScript(submit, common),
  claim: createScript(claim, common),
  settle: createScript(settle, common),
  housekeeping: createScript(housekeeping, common),
  list: createScript(list, common),
  stats: createScript(stats, common),
  retry: createScript(retry, common),
  delete: createScript(deleteText, common),
  clear: createScript(clear, common),
  pause: createScript(pause, common),
  permissions: createScript(permissions, ""),
} as const;
