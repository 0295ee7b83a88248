// The names, media types and content ids of files that both providers accept.

import type { Mime } from "mime";
import { hasControlCharacter } from "./address.ts";

/** Most files of one email. */
export const filesMax = 50;
/** Longest file name, bytes of UTF-8. */
const filenameMax = 255;
const mediaTypeMax = 255;

/** The media type of a file whose type is unknown. */
export const unknownType = "application/octet-stream";

const contentIdPattern = /^[A-Za-z0-9._@+-]{1,127}$/;

/** `type/subtype` (RFC 6838, 4.2), and parameters. */
const mediaTypePattern =
  /^[A-Za-z0-9][\w!#$&^.+-]{0,126}\/[A-Za-z0-9][\w!#$&^.+-]{0,126}(?:[ \t]*;[ \t]*[\w!#$%&'*+\-.^`|~]+=(?:[\w!#$%&'*+\-.^`|~]+|"[^"\\\p{Cc}]*"))*$/u;

// resend.com/docs/knowledge-base/what-attachment-types-are-not-supported
const forbiddenByResend =
  "adp app asp bas bat cer chm cmd com cpl crt csh der exe fxp gadget hlp hta inf ins isp its js jse ksh lib lnk mad maf " +
  "mag mam maq mar mas mat mau mav maw mda mdb mde mdt mdw mdz msc msh msh1 msh2 mshxml msh1xml msh2xml msi msp mst ops " +
  "pcd pif plg prf prg reg scf scr sct shb shs sys ps1 ps1xml ps2 ps2xml psc1 psc2 tmp url vb vbe vbs vps vsmacros vss " +
  "vst vsw vxd ws wsc wsf wsh xnk";
// postmarkapp.com/developer/user-guide/send-email-with-api
const forbiddenByPostmark =
  "vbs exe bin bat chm com cpl crt hlp hta inf ins isp jse lnk mdb pcd pif reg scr sct shs vbe vba wsf wsh wsl msc msi " +
  "msp mst";
export const forbiddenExtensions: ReadonlySet<string> = new Set(
  `${forbiddenByResend} ${forbiddenByPostmark}`.split(" "),
);

/** The last extension in lower case, or "". Dots and spaces at the end of the name are ignored, as Windows does. */
function extensionOf(filename: string): string {
  let end = filename.length;
  // Not by a pattern, which would take quadratic time: the name may have megabytes.
  while (end > 0 && ". ".includes(filename[end - 1]!)) end--;
  const name = filename.slice(0, end);
  return name.slice(name.lastIndexOf(".") + 1 || name.length).toLowerCase();
}

/** Why no file of this name can be sent; undefined if it can. */
export function filenameFault(filename: string): string | undefined {
  if (!filename.isWellFormed()) return "has a lone surrogate";
  if (hasControlCharacter(filename)) return "has a control character";
  if (/[/\\]/.test(filename)) return "has a slash or a backslash";
  if (Buffer.byteLength(filename) > filenameMax) return `is over ${filenameMax} bytes`;
  const extension = extensionOf(filename);
  return forbiddenExtensions.has(extension)
    ? `has an extension that providers refuse: .${extension}`
    : undefined;
}

let types: Mime | undefined;

/**
 * The media type for the extension of this file name, without parameters; undefined if it is unknown. Providers derive
 * types from extensions too, and Resend never sends a file that is declared with another type. So the table is all of
 * mime-db, from which most tables are made; Bun's own lacks eighty of its extensions.
 */
export function typeByExtension(filename: string): string | undefined {
  // Loaded with the first file, so that no start waits for it.
  types ??= (require("mime") as { default: Mime }).default;
  return types.getType(`a.${extensionOf(filename)}`) ?? undefined;
}

/** Whether a text is a media type, with or without parameters. */
export function isMediaType(text: string): boolean {
  return text.length <= mediaTypeMax && mediaTypePattern.test(text);
}

/**
 * The parameters of a media type as written, if the type is another name for `known`; undefined if it contradicts it.
 * Many types have had several names: `text/xml` and `application/xml`, `audio/x-wav` and `audio/wav`.
 */
export function parametersOf(type: string, known: string): string | undefined {
  const end = type.search(/[ \t]*(?:;|$)/);
  const subtype = (text: string) =>
    text
      .slice(text.indexOf("/") + 1)
      .toLowerCase()
      .replace(/^x-/, "");
  return subtype(type.slice(0, end)) === subtype(known) ? type.slice(end) : undefined;
}

export function isContentId(text: string): boolean {
  return contentIdPattern.test(text);
}
