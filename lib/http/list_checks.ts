// Checks the fields with several values. Each check returns the accepted values without empty ones, and reports every
// fault with its location in the field.

import { addressFault, isAddress, sameAddress } from "../email/address.ts";
import {
  filenameFault,
  filesMax,
  isContentId,
  isMediaType,
  parametersOf,
  typeByExtension,
  unknownType,
} from "../email/attachment.ts";
import type { Attachment, Pair } from "../email/fields.ts";
import { headerFault, headersMax, oneClickFault } from "../email/mail_headers.ts";
import { tagFault, tagsMax } from "../email/tags.ts";
import { type Given, type GivenFile, type GivenPair, shownName } from "./submitted_fields.ts";

/** @param place within the field, such as `[2].content`; empty for all of it */
export type Report = (place: string, fault: string) => void;

/** Most recipients of one email (Postmark's limit). */
export const recipientsMax = 50;
const contentIdFault = "is not 1 to 127 characters of A-Z a-z 0-9 . _ @ + -";

/** @param others the recipients in the fields before this one */
export function checkAddresses(
  list: readonly Given<string>[],
  others: readonly string[],
  report: Report,
): string[] {
  const addresses: string[] = [];
  for (const [i, item] of list.entries()) {
    const place = list.length === 1 ? "" : `[${i}]`;
    const address = textOf(item, place, report);
    if (!address) continue;
    const isRepeated = [...others, ...addresses].some((one) => sameAddress(one, address));
    const fault = isRepeated ? "is already a recipient" : recipientFault(address);
    if (fault !== undefined) report(place, fault);
    addresses.push(address);
  }
  if (addresses.length > 0 && others.length + addresses.length > recipientsMax)
    report("", `has too many addresses: to, cc and bcc have at most ${recipientsMax} together`);
  return addresses;
}

function recipientFault(text: string): string | undefined {
  if (isAddress(text)) return undefined;
  return /[,;<]/.test(text)
    ? "must be one address without a name; repeat the field for several"
    : addressFault(text);
}

export function checkHeaders(list: readonly GivenPair[], report: Report): Pair[] {
  const headers = checkPairs(list, headersMax, headerFault, report);
  const fault = oneClickFault(headers);
  if (fault !== undefined) report("[List-Unsubscribe-Post]", fault);
  return headers;
}

export function checkTags(list: readonly GivenPair[], report: Report): Pair[] {
  return checkPairs(list, tagsMax, tagFault, report);
}

function checkPairs(
  list: readonly GivenPair[],
  countMax: number,
  faultOf: (pair: Pair) => string | undefined,
  report: Report,
): Pair[] {
  const pairs: Pair[] = [];
  const names = new Set<string>();
  for (const [name, item] of list) {
    const place = `[${shownName(name)}]`;
    if (names.size === names.add(name.toLowerCase()).size) {
      report(place, "is given twice");
      continue;
    }
    const value = textOf(item, place, report);
    if (!value) continue;
    const fault = faultOf([name, value]);
    if (fault !== undefined) report(place, fault);
    pairs.push([name, value]);
  }
  if (pairs.length > countMax) report("", `has over ${countMax} values`);
  return pairs;
}

/** An accepted file, before its digest is known. */
export type CheckedFile = Omit<Attachment, "sha256"> & {
  readonly content: Uint8Array;
  /** The type as the client gave it; empty if it gave none, or said that the type is unknown. */
  readonly givenType: string;
};

export function checkFiles(list: readonly Given<GivenFile>[], report: Report): CheckedFile[] {
  const files: CheckedFile[] = [];
  const ids = new Set<string>();
  for (const [i, item] of list.entries()) {
    const place = `[${i}]`;
    if ("fault" in item) {
      report(place, item.fault);
      continue;
    }
    const reportMember = (member: string, fault: string) => report(`${place}.${member}`, fault);
    const filename = checkFilename(item, reportMember);
    const content = checkContent(item, reportMember);
    const type = checkType(item, filename, reportMember);
    const id = checkContentId(item, filename, reportMember);
    const isRepeated = id !== undefined && ids.size === ids.add(id).size;
    if (isRepeated) report(`${place}.content_id`, "is given twice");
    const idOf = id === undefined ? {} : { content_id: id };
    files.push({ filename, ...type, size: content.length, ...idOf, content });
  }
  if (files.length > filesMax) report("", `has over ${filesMax} files`);
  return files;
}

function checkFilename({ filename }: GivenFile, report: Report): string {
  const text = textOf(filename, "filename", report);
  if (text === undefined) return "";
  const fault = text === "" ? "is required" : filenameFault(text);
  if (fault !== undefined) report("filename", fault);
  return text;
}

function checkContent({ content, isPart }: GivenFile, report: Report): Uint8Array {
  if ("fault" in content) report("content", content.fault);
  else if (content.length > 0) return content;
  else report("content", isPart ? "is empty" : "is missing or empty");
  return new Uint8Array(0);
}

function checkType(
  file: GivenFile,
  filename: string,
  report: Report,
): Pick<CheckedFile, "content_type" | "declares_type" | "givenType"> {
  const known = typeByExtension(filename);
  const declared = textOf(file.contentType, "content_type", report) ?? "";
  const type = typeOf(declared, known, file, report);
  return {
    content_type: type,
    ...((known === undefined || type.includes(";")) && { declares_type: true }),
    givenType: declared.toLowerCase() === unknownType ? "" : declared,
  };
}

function typeOf(declared: string, known: string | undefined, { isPart }: GivenFile, report: Report): string {
  // Many clients declare every part as application/octet-stream.
  if (declared === "" || (isPart && known !== undefined)) return known ?? unknownType;
  if (!isMediaType(declared)) report("content_type", "is not a media type such as application/pdf");
  else if (known === undefined) return declared;
  else {
    const parameters = parametersOf(declared, known);
    if (parameters !== undefined) return known + parameters;
    report("content_type", `contradicts the extension of the file name, whose type is ${known}`);
  }
  return known ?? unknownType;
}

function checkContentId(file: GivenFile, filename: string, report: Report): string | undefined {
  if (file.isInline) {
    if (filename !== "" && !isContentId(filename))
      report("filename", `${contentIdFault}: the name of an inline file is its content id`);
    return filename;
  }
  const id = textOf(file.contentId, "content_id", report);
  if (id && !isContentId(id)) report("content_id", contentIdFault);
  return id || undefined;
}

/** The trimmed text, empty if absent; undefined if it was malformed, which is reported. */
function textOf(item: Given<string> | undefined, place: string, report: Report): string | undefined {
  if (item === undefined || typeof item === "string") return item?.trim() ?? "";
  report(place, item.fault);
  return undefined;
}
