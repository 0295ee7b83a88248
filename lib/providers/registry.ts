// From settings to providers.

import { openPostmark } from "./postmark.ts";
import type { Provider, ProviderName } from "./provider.ts";
import { openResend, type ResendSettings } from "./resend.ts";
import type { PostmarkSettings } from "./postmark.ts";
import { openSandbox, type SandboxSettings } from "./sandbox/sandbox.ts";

/** Throws for a provider without settings: the configuration has been checked. */
export function openProvider(
  name: ProviderName,
  settings: {
    readonly resend?: ResendSettings;
    readonly postmark?: PostmarkSettings;
    readonly sandbox?: SandboxSettings;
  },
): Provider {
  switch (name) {
    case "resend":
      if (settings.resend !== undefined) return openResend(settings.resend);
      break;
    case "postmark":
      if (settings.postmark !== undefined) return openPostmark(settings.postmark);
      break;
    case "sandbox":
      if (settings.sandbox !== undefined) return openSandbox(settings.sandbox);
      break;
  }
  throw new Error(`${name}: no settings`);
}
