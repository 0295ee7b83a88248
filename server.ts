// The server: settings, then the way into the queue, then the handler behind Bun.serve, and the end of it all on a
// signal. Several of them may share one port.

import { describe, errorCode } from "./lib/runtime/errors.ts";
import { isLoopback, createGate } from "./lib/http/auth.ts";
import { watchDescriptors } from "./lib/runtime/file_descriptors.ts";
import { openAdminPort } from "./lib/admin/http.ts";
import { createStatsCache } from "./lib/admin/stats_cache.ts";
import { createServerMetrics } from "./lib/admin/server_metrics.ts";
import { logWarnings, readConfig } from "./lib/config/config.ts";
import { createLog } from "./lib/runtime/log.ts";
import { openProducer, openAdmin } from "./lib/queue/open.ts";
import { onStop } from "./lib/runtime/signals.ts";
import { Handler, internalError } from "./lib/http/handler.ts";
import { defaultLimits } from "./lib/http/body/upload.ts";

const read = readConfig(process.env, "server");
if (!read.ok) {
  console.error(read.message);
  process.exit(2);
}
const { config } = read;
const log = createLog({ level: config.logLevel, secrets: config.secrets });
logWarnings(log, read.warnings);
const counts = createServerMetrics();

let server: ReturnType<typeof listen> | undefined;

const producer = openProducer(config.queue, {
  log,
  // Requests that have arrived are answered first.
  onFatal(reason) {
    log.error("store-unusable", { reason });
    if (server === undefined) process.exit(1);
    setTimeout(() => process.exit(1), config.shutdownTimeoutMs);
    void server.stop().then(() => process.exit(1));
    handler.hurry();
    void producer.close();
  },
  onGroup: counts.onGroup,
});

const handler = new Handler({
  producer,
  senders: {
    ...(config.defaultFrom !== undefined && { from: config.defaultFrom }),
    ...(config.defaultFromName !== undefined && { fromName: config.defaultFromName }),
    ...(config.allowedFrom !== undefined && { allowed: config.allowedFrom }),
  },
  ...(config.apiTokens !== undefined && { gate: createGate(config.apiTokens) }),
  onLoopback: isLoopback(config.host),
  maxBodyBytes: config.maxBodyBytes,
  submitTimeoutMs: config.submitTimeoutMs,
  log,
  onAnswer: counts.onAnswer,
});

let stopping = false;
const view = createStatsCache({
  open: (quiet) => openAdmin(config.queue, config.retainMs, quiet),
});
// Clients expect a server to close a connection that they keep idle.
const shortage = watchDescriptors(log, () => server?.closeIdleConnections());
const admin = openAdminPort(
  config.admin,
  counts.show({ handler, producer, view, stopping: () => stopping, shortage }),
  log,
);
if (!admin.ok) {
  console.error(admin.message);
  process.exit(1);
}

server = listen();
onStop({
  log,
  timeoutMs: config.shutdownTimeoutMs,
  repeatMs: config.signalRepeatMs,
  // Stops accepting, and answers what has been received.
  async drain() {
    stopping = true;
    await server?.stop();
    view.close();
    await producer.close();
  },
  // Whoever still waits gets an answer: for the rest of a body, or from the store.
  hurry() {
    handler.hurry();
    void producer.close();
  },
});

// Last: whoever waits for this line may send a signal at once.
log.info("server-listening", { host: config.host, port: server.port });

function listen() {
  try {
    return Bun.serve({
      hostname: config.host,
      port: config.port,
      reusePort: true,
      development: false,
      // Cuts a body, and a handler, that take longer; Bun counts in steps of four seconds, and may be one early.
      idleTimeout: Math.ceil(Math.max(defaultLimits.bodyTimeoutMs, config.submitTimeoutMs) / 1000) + 5,
      // Bun's own answer beyond it is no JSON: the handler keeps the limit.
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      fetch: (request) => handler.handle(request),
      error(error) {
        log.error("request-failed", describe(error));
        return internalError();
      },
    });
  } catch (error) {
    const code = errorCode(error) ?? "unknown error";
    console.error(
      code === "EADDRINUSE"
        ? `Cannot start: PORT ${config.port} is taken by another process: stop it, or set another PORT`
        : `Cannot start: HOST ${config.host} and PORT ${config.port} cannot be listened on (${code})`,
    );
    process.exit(1);
  }
}
