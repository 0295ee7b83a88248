// The Lua scripts of the queue. The first line of each file says when Redis runs it: `allow-oom` even when `maxmemory` is
// reached, for all that makes the queue shorter or leads to that; `no-writes` even when Redis refuses all writes.
// The format that they expect, common.lua and the other parts that they need are inserted after that line.

import adopt from "./scripts/adopt.lua" with { type: "text" };
import changeRate from "./scripts/change_rate.lua" with { type: "text" };
import claim from "./scripts/claim.lua" with { type: "text" };
import clear from "./scripts/clear.lua" with { type: "text" };
import deleteText from "./scripts/delete.lua" with { type: "text" };
import dropPieces from "./scripts/drop_pieces.lua" with { type: "text" };
import getPiece from "./scripts/get_piece.lua" with { type: "text" };
import housekeeping from "./scripts/housekeeping.lua" with { type: "text" };
import list from "./scripts/list.lua" with { type: "text" };
import listKeys from "./scripts/list_keys.lua" with { type: "text" };
import move from "./scripts/move.lua" with { type: "text" };
import noteAcceptance from "./scripts/note_acceptance.lua" with { type: "text" };
import pause from "./scripts/pause.lua" with { type: "text" };
import permissions from "./scripts/permissions.lua" with { type: "text" };
import permit from "./scripts/permit.lua" with { type: "text" };
import putPiece from "./scripts/put_piece.lua" with { type: "text" };
import rememberKeys from "./scripts/remember_keys.lua" with { type: "text" };
import retry from "./scripts/retry.lua" with { type: "text" };
import settle from "./scripts/settle.lua" with { type: "text" };
import stats from "./scripts/stats.lua" with { type: "text" };
import submit from "./scripts/submit.lua" with { type: "text" };
import withdraw from "./scripts/withdraw.lua" with { type: "text" };
import batches from "./scripts/parts/batches.lua" with { type: "text" };
import common from "./scripts/parts/common.lua" with { type: "text" };
import dueLists from "./scripts/parts/due_lists.lua" with { type: "text" };
import emails from "./scripts/parts/emails.lua" with { type: "text" };
import files from "./scripts/parts/files.lua" with { type: "text" };
import hidden from "./scripts/parts/hidden.lua" with { type: "text" };
import keys from "./scripts/parts/keys.lua" with { type: "text" };
import rates from "./scripts/parts/rates.lua" with { type: "text" };
import sweepHidden from "./scripts/parts/sweep_hidden.lua" with { type: "text" };
import { formatText } from "./queue_format.ts";

export interface Script {
  /** The commands of Redis that it calls. */
  readonly commands: readonly string[];
  /** Its text and digest for a queue with this number of partitions. */
  version(partitions: number): { readonly text: string; readonly sha: string };
}

const all = [common, hidden, files, batches, emails];

/** @param parts the text that is inserted; without any, the script does not compare the format */
function createScript(source: string, parts: readonly string[]): Script {
  const inserted = parts.join("");
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
  submit: createScript(submit, [common, hidden, files]),
  putPiece: createScript(putPiece, [common]),
  getPiece: createScript(getPiece, [common]),
  dropPieces: createScript(dropPieces, [common]),
  claim: createScript(claim, [common, hidden, batches, rates, dueLists]),
  permit: createScript(permit, [common, rates]),
  changeRate: createScript(changeRate, [common, rates]),
  settle: createScript(settle, [...all, rates]),
  noteAcceptance: createScript(noteAcceptance, [common]),
  housekeeping: createScript(housekeeping, [...all, rates, keys, sweepHidden]),
  list: createScript(list, all),
  stats: createScript(stats, [...all, rates]),
  retry: createScript(retry, all),
  withdraw: createScript(withdraw, [common]),
  delete: createScript(deleteText, all),
  clear: createScript(clear, all),
  pause: createScript(pause, [common]),
  move: createScript(move, [common]),
  listKeys: createScript(listKeys, [common]),
  rememberKeys: createScript(rememberKeys, [common, keys]),
  adopt: createScript(adopt, all),
  permissions: createScript(permissions, []),
} as const;
