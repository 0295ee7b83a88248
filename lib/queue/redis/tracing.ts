// Unlike Node's, Bun's tracing channels do not report whether they have subscribers. ioredis therefore prepares every command
// for tracing: it wraps the promise, and formats each argument, even a piece of a file.

import { type TracingChannel, tracingChannel } from "node:diagnostics_channel";

const channels: object = Object.getPrototypeOf(tracingChannel("ioredis:command"));

if (!("hasSubscribers" in channels)) {
  Object.defineProperty(channels, "hasSubscribers", {
    get(this: TracingChannel): boolean {
      const { start, end, asyncStart, asyncEnd, error } = this;
      return [start, end, asyncStart, asyncEnd, error].some(({ hasSubscribers }) => hasSubscribers);
    },
  });
}
