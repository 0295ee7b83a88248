import type { Log } from "../../lib/log.ts";

const nothing = () => {};

/** A log for code whose log is not what is tested. */
export const silent: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing };
