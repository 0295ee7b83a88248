// Contents of files in JSON: standard base64 with padding (RFC 4648, 4), which may be broken into lines.

import type { Given } from "../submitted_fields.ts";

/** The bytes, or why the text is not base64. An empty text is zero bytes. */
export function decodeBase64(text: string): Given<Uint8Array> {
  // The decoder skips spaces, but in a text from a form a space may have been a plus sign.
  if (!/[ \t\f]/.test(text)) {
    try {
      return Uint8Array.fromBase64(text, { lastChunkHandling: "strict" });
    } catch {
      // Reported below.
    }
  }
  return { fault: `is not base64${hintAt(text)}` };
}

function hintAt(text: string): string {
  if (/^\s*data:/i.test(text)) return ": leave out the prefix data:…;base64,";
  if (/[-_]/.test(text)) return ": it uses - or _ of the URL-safe alphabet instead of + and /";
  if (/[ \t\f]/.test(text)) return ": it contains a space";
  return /^[A-Za-z0-9+/\r\n]*$/.test(text) ? ": it is cut off or lacks padding" : "";
}
