// The details of one email: the same fields that `queue show` prints.

import type { DisplayField } from "../../lib/cli/fields.ts";
import { formatTime } from "../../lib/cli/format.ts";
import { emailFields, stateMeanings } from "../../lib/cli/queue/email_fields.ts";
import { outcomes } from "../../lib/cli/queue/show.ts";
import { contentNames } from "../../lib/email/email.ts";
import { labelOf } from "../../lib/email/fields.ts";
import { isSandbox } from "../../lib/providers/registry.ts";
import type { StoredEmail } from "../../lib/queue/contract.ts";
import type { Attachment } from "../../lib/email/fields.ts";
import type { EmailDetails, FileRow, Labeled } from "./protocol.ts";

/** Fields that the page shows in its heading or in separate sections. */
const shownElsewhere = ["state", "subject", "attachments"];

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
    attachments: (shown.attachments.value ?? []).map(fileRowOf),
    areFilesKept: areFilesKept(stored),
    contents: contentNames.flatMap((name) => {
      const text = shown[name].value;
      return text === undefined ? [] : [{ label: labelOf(name) ?? name, text }];
    }),
    deliveredAs: isFile && provider_message_id.value ? `${provider_message_id.value}.eml` : undefined,
  };
}

/** The files of an email whose contents are still in the queue; none once it is sent or deleted. */
export function attachmentsOf(stored: StoredEmail): readonly Attachment[] {
  return areFilesKept(stored) ? (emailFields(stored).attachments.value ?? []) : [];
}

const areFilesKept = ({ state }: StoredEmail) => state !== "sent" && state !== "deleted";

function fileRowOf({ filename, content_type, size, content_id }: Attachment): FileRow {
  return { name: filename, type: content_type, bytes: size, contentId: content_id };
}

/** Returns nothing for a field without a label or value: those are for programs. */
function labeled({ label, value, text, atMs }: DisplayField): Labeled[] {
  if (label === undefined) return [];
  if (atMs !== undefined) return [{ label, at: formatTime(atMs) }];
  const shown = text === undefined ? String(value ?? "") : [text].flat().join("\n");
  return shown === "" ? [] : [{ label, text: shown }];
}
