// The Lua scripts of the queue. The first line of each file says when Redis runs it: `allow-oom` even when `maxmemory` is
// reached, for all that makes the queue shorter or leads to that; `no-writes` even when Redis refuses all writes.
// Behind that line are inserted the format that they expect, common.lua, new_emails.lua and queue.lua, and where they are
// needed rates.lua, due_lists.lua and sweep_new.lua.

import adopt from "./scripts/adopt.lua" with { type: "text" };
import changeRate from "./scripts/change_rate.lua" with { type: "text" };
import claim from "./scripts/claim.lua" with { type: "text" };
import clear from "./scripts/clear.lua" with { type: "text" };
import common from "./scripts/common.lua" with { type: "text" };
import deleteText from "./scripts/delete.lua" with { type: "text" };
import dropPieces from "./scripts/drop_pieces.lua" with { type: "text" };
import dueLists from "./scripts/due_lists.lua" with { type: "text" };
import getPiece from "./scripts/get_piece.lua" with { type: "text" };
import housekeeping from "./scripts/housekeeping.lua" with { type: "text" };
import list from "./scripts/list.lua" with { type: "text" };
import listKeys from "./scripts/list_keys.lua" with { type: "text" };
import move from "./scripts/move.lua" with { type: "text" };
import newEmails from "./scripts/new_emails.lua" with { type: "text" };
import noteAcceptance from "./scripts/note_acceptance.lua" with { type: "text" };
import pause from "./scripts/pause.lua" with { type: "text" };
import permissions from "./scripts/permissions.lua" with { type: "text" };
import permit from "./scripts/permit.lua" with { type: "text" };
import putPiece from "./scripts/put_piece.lua" with { type: "text" };
import queue from "./scripts/queue.lua" with { type: "text" };
import rates from "./scripts/rates.lua" with { type: "text" };
import rememberKeys from "./scripts/remember_keys.lua" with { type: "text" };
import retry from "./scripts/retry.lua" with { type: "text" };
import settle from "./scripts/settle.lua" with { type: "text" };
import stats from "./scripts/stats.lua" with { type: "text" };
import submit from "./scripts/submit.lua" with { type: "text" };
import sweepNew from "./scripts/sweep_new.lua" with { type: "text" };
import { formatText } from "./queue_format.ts";

export interface Script {
  /** The commands of Redis that it calls. */
  readonly commands: readonly string[];
  /** Its text and digest for a queue with this number of partitions. */
  version(partitions: number): { readonly text: string; readonly sha: string };
}

/** The beginning of every script. */
const shared = common + newEmails + queue;
const withRates = shared + rates;

/** @param inserted without any text, the script does not compare the format */
function createScript(source: string, inserted = shared): Script {
  const versions = new Map<number, ReturnType<Script["version"]>>();
  return {
    get commands() {
      const calls = `${inserted}${source}`.matchAll(/call\('([A-Z]+)'/g);
      return [...new Set(Array.from(calls, ([, name = ""]) => name))];
    },
    version(partitions) {
      const known = versions.get(partitions);
      if (known !== undefined) return known;
      // Each script compares the queue's format, which names the number of partitions.
      const preamble = inserted && `local FORMAT = '${formatText(partitions)}'\n${inserted}`;
      const text = source.replace("\n", () => `\n${preamble}`);
      const sha = new Bun.CryptoHasher("sha1").update(text).digest("hex");
      versions.set(partitions, { text, sha });
      return { text, sha };
    },
  };
}

export const scripts = {
  submit: createScript(submit),
  putPiece: createScript(putPiece),
  getPiece: createScript(getPiece),
  dropPieces: createScript(dropPieces),
  claim: createScript(claim, withRates + dueLists),
  permit: createScript(permit, withRates),
  changeRate: createScript(changeRate, withRates),
  settle: createScript(settle, withRates),
  noteAcceptance: createScript(noteAcceptance),
  housekeeping: createScript(housekeeping, withRates + sweepNew),
  list: createScript(list),
  stats: createScript(stats, withRates),
  retry: createScript(retry),
  delete: createScript(deleteText),
  clear: createScript(clear),
  pause: createScript(pause),
  move: createScript(move),
  listKeys: createScript(listKeys),
  rememberKeys: createScript(rememberKeys),
  adopt: createScript(adopt),
  permissions: createScript(permissions, ""),
} as const;
