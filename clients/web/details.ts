// The details of one email: the same fields that `queue show` prints.

import type { DisplayField } from "../../lib/cli/fields.ts";
import { formatTime } from "../../lib/cli/format.ts";
import { emailFields, stateMeanings } from "../../lib/cli/queue/email_fields.ts";
import { outcomes } from "../../lib/cli/queue/show.ts";
import { contentNames } from "../../lib/email/email.ts";
import { labelOf } from "../../lib/email/fields.ts";
import { isSandbox } from "../../lib/providers/registry.ts";
import type { StoredEmail } from "../../lib/queue/contract.ts";
import type { EmailDetails, Labeled } from "./protocol.ts";

/** Fields that the page shows in its heading. */
const shownElsewhere = ["state", "subject"];

export function detailsOf(stored: StoredEmail): EmailDetails {
  const shown = emailFields(stored);
  const { state, subject, outcome_unknown, provider, provider_message_id, attempts } = shown;
  const isFile = provider.value !== undefined && isSandbox(provider.value);
  const fields = Object.entries(shown).filter(([name]) => !shownElsewhere.includes(name));
  return {
    id: stored.id,
    state: state.value,
    meaning: stateMeanings[state.value],
    subject: subject.value,
    outcomeUnknown: outcome_unknown.value === true,
    fields: fields.flatMap(([, field]) => labeled(field)),
    attempts: attempts.value.map(({ at, provider: name, outcome, reason = "" }) => ({
      at,
      provider: name,
      outcome: outcomes[outcome] ?? outcome,
      isAccepted: outcome === "accepted" || outcome === "recalled",
      reason,
    })),
    contents: contentNames.flatMap((name) => {
      const text = shown[name].value;
      return text === undefined ? [] : [{ label: labelOf(name) ?? name, text }];
    }),
    deliveredAs: isFile && provider_message_id.value ? `${provider_message_id.value}.eml` : undefined,
  };
}

/** Returns nothing for a field without a label or value: those are for programs. */
function labeled({ label, value, text, atMs }: DisplayField): Labeled[] {
  if (label === undefined) return [];
  if (atMs !== undefined) return [{ label, at: formatTime(atMs) }];
  const shown = text === undefined ? String(value ?? "") : [text].flat().join("\n");
  return shown === "" ? [] : [{ label, text: shown }];
}
