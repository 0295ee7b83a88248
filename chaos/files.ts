// The files of a run's emails. Their contents are slices of one block of random bytes: they are all different, and cheap to
// create again.

import { seededRandom } from "../fakes/faults.ts";
import { pick } from "./schedule.ts";

export interface AttachedFile {
  readonly filename: string;
  readonly content: Uint8Array;
  /** The type as which it must arrive. */
  readonly type: string;
  /** Whether the client has to declare the type, because the extension is unknown. */
  readonly declaresType: boolean;
  /** The id of an inline image. It is also the file name, since a form has no other place for it. */
  readonly contentId?: string;
}

/** A word in the name of every file. */
export const fileMark = "enclosed";

const names: readonly { readonly end: string; readonly type: string; readonly declaresType?: true }[] = [
  { end: ".pdf", type: "application/pdf" },
  { end: " Grüße №7.png", type: "image/png" },
  { end: ' "quoted"; filename=x.txt', type: "text/plain" },
  { end: ".2026.JPG", type: "image/jpeg" },
  { end: " 100%22.json", type: "application/json" },
  { end: ".chaos-data", type: "application/vnd.chaos", declaresType: true },
  { end: "", type: "text/x-chaos", declaresType: true },
];

/** Most files are small, because large ones would make the harness slow. */
const smallBytesMax = 300 * 1024;
const largeBytes = 2 * 1024 * 1024;
/** One file in this many is large. */
const largeEvery = 50;

/**
 * The files of an email.
 * @param random draws everything about them
 */
export function drawFiles(n: number, random: () => number): AttachedFile[] {
  return Array.from({ length: random() < 0.7 ? 1 : 2 + Math.floor(random() * 3) }, (_, index) => {
    const { end, type, declaresType = false } = pick(names, random());
    return { filename: `${fileMark}-${n}-${index}${end}`, type, declaresType, content: drawContent(random) };
  });
}

export function drawInlineImage(n: number, random: () => number): AttachedFile {
  const name = `${fileMark}-logo-${n}.png`;
  return {
    filename: name,
    contentId: name,
    type: "image/png",
    declaresType: false,
    content: drawContent(random),
  };
}

/** Draws every order of magnitude from one byte on equally often. */
function drawContent(random: () => number): Uint8Array {
  const size = random() < 1 / largeEvery ? largeBytes : Math.floor(smallBytesMax ** random());
  const start = Math.floor(random() * (blockBytes - size));
  block ??= randomBlock();
  return block.subarray(start, start + size);
}

const blockBytes = 2 * largeBytes;
let block: Uint8Array | undefined;

function randomBlock(): Uint8Array {
  const random = seededRandom(1);
  return new Uint8Array(Uint32Array.from({ length: blockBytes / 4 }, () => random() * 2 ** 32).buffer);
}
