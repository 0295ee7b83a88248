// Postmark's search of sent messages: the filters that an email fits, and the fields that the search shows.

import { parseMailbox, splitMailboxes } from "./address_rules.ts";
import type { Acceptance } from "./ledger.ts";

/**
 * Whether an email fits the filters for its recipients, sender, subject and tag.
 * @param filters by name, in lower case
 */
export function isFoundBy(acceptance: Acceptance, filters: ReadonlyMap<string, string>): boolean {
  const isWanted = (filter: string, values: () => readonly string[]) => {
    const wanted = filters.get(filter)?.toLowerCase();
    return wanted === undefined || values().some((value) => value.toLowerCase() === wanted);
  };
  return (
    isWanted("recipient", () => recipientsOf(acceptance)) &&
    isWanted("fromemail", () => [addressOf(acceptance.from)]) &&
    isWanted("subject", () => [acceptance.subject]) &&
    isWanted("tag", () => [acceptance.tag ?? ""])
  );
}

export function asSearchResult(acceptance: Acceptance) {
  const { to, cc = "", bcc = "", tag = "", attachments = [] } = acceptance;
  return {
    Tag: tag,
    MessageID: acceptance.messageId,
    MessageStream: acceptance.stream,
    To: asSearchAddresses(to),
    Cc: asSearchAddresses(cc),
    Bcc: asSearchAddresses(bcc),
    Recipients: recipientsOf(acceptance),
    ReceivedAt: easternTime(acceptance.atMs),
    From: acceptance.from,
    Subject: acceptance.subject,
    Attachments: attachments.map(({ name }) => name),
    Status: "Sent",
    TrackOpens: false,
    TrackLinks: "None",
    Metadata: acceptance.labels,
    Sandboxed: false,
  };
}

function asSearchAddresses(list: string) {
  return splitMailboxes(list).map((text) => {
    const mailbox = parseMailbox(text);
    return { Email: mailbox?.address, Name: mailbox?.name ?? null };
  });
}

function recipientsOf({ to, cc = "", bcc = "" }: Acceptance): string[] {
  return [to, cc, bcc].flatMap(splitMailboxes).map(addressOf);
}

function addressOf(mailbox: string): string {
  return parseMailbox(mailbox)?.address ?? "";
}

/** In Postmark's format, with seven decimals and New York's offset, here always that of winter. */
export function easternTime(atMs: number): string {
  return new Date(atMs - 5 * 3_600_000).toISOString().replace("Z", "0000-05:00");
}
