// From settings to providers.

import { createPostmark } from "./postmark.ts";
import type { Provider, ProviderName } from "./provider.ts";
import { createResend, type ResendSettings } from "./resend.ts";
import type { PostmarkSettings } from "./postmark.ts";
import { createSandbox, type SandboxSettings } from "./sandbox/sandbox.ts";

/** Throws for a provider without settings: the configuration has been checked. */
export function createProvider(
  name: ProviderName,
  settings: {
    readonly resend?: ResendSettings;
    readonly postmark?: PostmarkSettings;
    readonly sandbox?: SandboxSettings;
  },
): Provider {
  switch (name) {
    case "resend":
      if (settings.resend !== undefined) return createResend(settings.resend);
      break;
    case "postmark":
      if (settings.postmark !== undefined) return createPostmark(settings.postmark);
      break;
    case "sandbox":
      if (settings.sandbox !== undefined) return createSandbox(settings.sandbox);
      break;
  }
  throw new Error(`${name}: no settings`);
}
