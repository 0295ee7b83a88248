import type { Log } from "../../lib/runtime/log.ts";

const nothing = () => {};

/** A log for tests that do not check the log. */
export const silent: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing };

type Fields = Readonly<Record<string, unknown>>;

/** A log that records its events. */
export function recordingLog(): Log & { events(name: string): Fields[] } {
  const lines: { event: string; fields: Fields }[] = [];
  const record = (event: string, fields: Fields = {}) => void lines.push({ event, fields });
  return {
    debug: record,
    info: record,
    warn: record,
    error: record,
    events: (name) => lines.filter(({ event }) => event === name).map(({ fields }) => fields),
  };
}
