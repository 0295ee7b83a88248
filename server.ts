// The server: accepts submissions over HTTP and answers once they are in the queue. Several may share one port.

import { openAdminPort } from "./lib/admin/port.ts";
import { serverReadiness } from "./lib/admin/readiness.ts";
import { ServerMetrics } from "./lib/admin/server_metrics.ts";
import { type Config, readConfig } from "./lib/config/config.ts";
import { defaultLimits } from "./lib/http/body/upload.ts";
import { Handler, internalError } from "./lib/http/handler.ts";
import { openProducer } from "./lib/queue/open.ts";
import { describe } from "./lib/runtime/errors.ts";
import { watchDescriptors } from "./lib/runtime/file_descriptors.ts";
import { runProcess, serveHttp, type Service, type ServiceContext } from "./lib/runtime/service.ts";

export interface Server extends Service {
  /** The port on which it listens. */
  readonly port: number;
}

interface ServerContext extends ServiceContext<Config> {
  /** Whether another server may listen on the same port. Default: true. */
  readonly sharesPort?: boolean;
}

export async function startServer(context: ServerContext): Promise<Server> {
  const { config, log, onFatal, sharesPort = true } = context;
  const metrics = new ServerMetrics(config.maxAttachmentBacklogBytes);
  const producer = await openProducer(config.queue, {
    log,
    onFatal,
    onGroup: metrics.onGroup,
    filesMaxBytes: config.maxAttachmentBacklogBytes,
  });
  const handler = new Handler({
    ...config,
    producer,
    log,
    onAnswer: metrics.onAnswer,
  });
  let stopping = false;
  openAdminPort(config.admin, {
    role: "server",
    log,
    stats: () => producer.stats(),
    health: () => producer.health(),
    // Does no harm: clients expect a server to close idle connections.
    shortage: watchDescriptors(log, () => server.closeIdleConnections()),
    readiness: (status) => serverReadiness({ ...status, stopping, overload: handler.load().overload }),
    families: () => metrics.families(handler.load()),
  });
  const server = serveHttp("", {
    hostname: config.host,
    port: config.port,
    reusePort: sharesPort,
    // This also cuts off slow bodies and handlers. Bun counts in steps of four seconds, and may be one step early.
    idleTimeout: Math.ceil(Math.max(defaultLimits.bodyTimeoutMs, config.submitTimeoutMs) / 1000) + 5,
    // Bun's own answer to a larger body is not JSON: the handler enforces the limit.
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    fetch: (request) => handler.handle(request),
    error(error) {
      log.error("request-failed", describe(error));
      return internalError();
    },
  });
  log.info("server-listening", { host: config.host, port: server.port });

  return {
    port: server.port ?? config.port,
    async drain() {
      stopping = true;
      await server.stop();
      await producer.close();
    },
    // Answers every request that still waits for the rest of its body, or for the store.
    hurry() {
      handler.hurry();
      void producer.close();
    },
  };
}

if (import.meta.main) await runProcess(readConfig(process.env, "server"), startServer);
