// Shared by the suites of the providers: batches to send, and each provider with the fake of its API.

import type { Outcome } from "../../lib/policy/request_outcome.ts";
import { createPostmark } from "../../lib/providers/postmark.ts";
import type { Outgoing, Provider } from "../../lib/providers/provider.ts";
import { createResend } from "../../lib/providers/resend.ts";
import type { Fake } from "../../fakes/fake.ts";
import { startFakePostmark } from "../../fakes/postmark.ts";
import { startFakeResend } from "../../fakes/resend.ts";

export const patienceMs = 60_000;

/** A batch of this many emails, with a new id. */
export function outgoing(count = 2, context = ""): Outgoing {
  return {
    batchId: Bun.randomUUIDv7(),
    context,
    emails: Array.from({ length: count }, (_, index) => ({
      id: Bun.randomUUIDv7(),
      email: {
        to: `to-${index}@example.org`,
        to_name: "Recipient",
        from: "shop@example.com",
        from_name: "Shop",
        subject: `Order ${index}`,
        body: "Thank you.",
      },
    })),
  };
}

/** An email with a file, which Resend takes alone. */
export function outgoingWithFile(content: Uint8Array = Buffer.from("%PDF")): Outgoing {
  const [first] = outgoing(1).emails;
  const sha256 = new Bun.CryptoHasher("sha256").update(content).digest("hex");
  const file = { filename: "a.pdf", content_type: "application/pdf", size: content.byteLength, sha256 };
  const email = { ...first!.email, attachments: [file] };
  return { ...outgoing(0), emails: [{ id: first!.id, email, files: [content] }] };
}

export interface Side {
  readonly name: "resend" | "postmark";
  readonly fake: Fake<object>;
  readonly provider: Provider;
  /** The provider with another base URL. */
  at(url: string): Provider;
}

export function startResend(options: Parameters<typeof startFakeResend>[0] = {}) {
  const fake = startFakeResend(options);
  const at = (baseUrl: string): Provider => createResend({ apiKey: "re_fake", baseUrl });
  return { name: "resend" as const, fake, provider: at(fake.url), at };
}

export function startPostmark(options: Parameters<typeof startFakePostmark>[0] = {}) {
  const fake = startFakePostmark(options);
  const at = (baseUrl: string): Provider =>
    createPostmark({ serverToken: "fake-token", baseUrl, messageStream: "outbound" });
  return { name: "postmark" as const, fake, provider: at(fake.url), at };
}

/** Sends a batch in the provider's context, with a generous timeout. */
export function send(provider: Provider, batch = outgoing(), signal = AbortSignal.timeout(patienceMs)) {
  return provider.send({ ...batch, context: provider.context }, signal);
}

/** The class of an outcome without its reason, such as "rejected, stable" or "unknown". */
export function classOf(outcome: Outcome | undefined): string {
  if (outcome?.kind === "rejected") return outcome.stable ? "rejected, stable" : "rejected";
  return outcome?.kind ?? "none";
}

/** The class of an answer to the whole request; "each" otherwise. */
export async function wholeOf(sending: ReturnType<typeof send>): Promise<string> {
  const { result } = await sending;
  return result.kind === "whole" ? classOf(result.outcome) : "each";
}
