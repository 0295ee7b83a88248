// From settings to providers.

import { openPostmark } from "./postmark.ts";
import type { Provider, ProviderName } from "./provider.ts";
import { openResend, type ResendSettings } from "./resend.ts";
import type { PostmarkSettings } from "./postmark.ts";

/** Throws for a provider without credentials: the configuration has been checked. */
export function openProvider(
  name: ProviderName,
  settings: { readonly resend?: ResendSettings; readonly postmark?: PostmarkSettings },
): Provider {
  switch (name) {
    case "resend":
      if (settings.resend !== undefined) return openResend(settings.resend);
      break;
    case "postmark":
      if (settings.postmark !== undefined) return openPostmark(settings.postmark);
      break;
  }
  throw new Error(`${name}: no credentials`);
}
