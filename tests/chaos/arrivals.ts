// The emails of a run as they arrive at a provider if nothing is wrong.

import { type Arrival, withoutLastLineEnds } from "../../chaos/comparison.ts";
import { type Emails, emailOf } from "../../chaos/emails.ts";

/** The email of this number as a provider accepts it. */
export function arrivalOf(n: number, emails: Emails, provider: Arrival["provider"] = "resend"): Arrival {
  const { texts, cc, bcc, headers, tags, files } = emailOf(n, emails);
  const isFile = provider === "sandbox";
  const box = (address = "", name?: string) =>
    name === undefined ? address : `"${name.replaceAll('"', '\\"')}" <${address}>`;
  return {
    provider,
    atMs: 10_000,
    emailId: `id-${n}`,
    from: box(texts["from"], texts["from_name"]),
    to: box(texts["to"], texts["to_name"]),
    cc: cc.join(", ") || undefined,
    bcc: (!isFile && bcc.join(", ")) || undefined,
    subject: texts["subject"]!,
    text: isFile ? withoutLastLineEnds(texts["body"]!) : texts["body"],
    html: texts["html"],
    replyTo: texts["reply_to"],
    headers: Object.fromEntries(headers),
    labels: { email_id: `id-${n}`, ...Object.fromEntries(tags) },
    tag: provider === "postmark" ? Object.fromEntries(tags)["tag"] : undefined,
    attachments: files.map(({ filename, type, contentId, content }) => ({
      name: filename,
      type,
      ...(contentId !== undefined && { contentId }),
      bytes: content.byteLength,
      sha256: new Bun.CryptoHasher("sha256").update(content).digest("hex"),
    })),
  };
}
