// The admin port of a process: whether it is alive, whether it is ready, and its metrics. It is read only, does not
// authenticate, and speaks for its own process alone.

import type { Health, QueueStats } from "../queue/contract.ts";
import { describe } from "../runtime/errors.ts";
import type { Log } from "../runtime/log.ts";
import { serveHttp } from "../runtime/service.ts";
import { contentType, type Family, format, gauge } from "./metrics.ts";
import { createProcessMetrics, queueFamilies } from "./common_metrics.ts";
import type { ProcessStatus, Readiness } from "./readiness.ts";
import { StatsCache } from "./stats_cache.ts";

export interface AdminPortOptions {
  readonly role: "server" | "worker";
  readonly log: Log;
  /** The queue's statistics; rejects if the store does not answer. */
  readonly stats: () => Promise<QueueStats>;
  readonly health: () => Health;
  /** Why the next connections may fail, if they may. */
  readonly shortage: () => string | undefined;
  readonly readiness: (status: ProcessStatus) => Readiness;
  readonly families: () => readonly Family[];
  /** Providers that have metrics of the queue even before the first email. */
  readonly providers?: readonly string[];
}

/**
 * Longest silence of a reader, s. Longer than readers commonly pause, so that a connection can be reused when there
 * are no descriptors left for a new one.
 */
const idleTimeout = 120;

/**
 * The port stays open until the process ends, so that a draining process can be observed. Throws `CannotStart`.
 * @param address undefined: no admin port
 */
export function openAdminPort(
  address: { readonly host: string; readonly port: number } | undefined,
  options: AdminPortOptions,
): void {
  if (address === undefined) return;
  const { role, log, health, shortage, providers = [] } = options;
  const cache = new StatsCache(options.stats);
  const own = createProcessMetrics(role);

  async function judge(): Promise<{ stats: QueueStats | undefined; readiness: Readiness }> {
    const stats = await cache.look();
    const status = { stats, refusal: cache.refusal, health: health(), shortage: shortage() };
    return { stats, readiness: options.readiness(status) };
  }

  const routes: Readonly<Record<string, () => Promise<Response>>> = {
    "/healthz": async () => json(200, { alive: true }),
    async "/readyz"() {
      const { readiness } = await judge();
      const ready = isReady(readiness);
      return json(ready ? 200 : 503, { ready, ...readiness });
    },
    async "/metrics"() {
      const { stats, readiness } = await judge();
      const families = [
        gauge("reliable_email_ready", "1 if /readyz answers 200, else 0.", isReady(readiness) ? 1 : 0),
        ...options.families(),
        ...queueFamilies(stats, health(), providers),
        ...own(),
      ];
      return new Response(format(families), { headers: { "content-type": contentType } });
    },
  };

  const server = serveHttp("ADMIN_", {
    hostname: address.host,
    port: address.port,
    reusePort: false,
    idleTimeout,
    maxRequestBodySize: 1024,
    async fetch({ url, method }) {
      // Without a usable Host header, Bun's URL is not absolute.
      const route = routes[URL.parse(url, "http://localhost")?.pathname ?? ""];
      if (route === undefined) {
        return json(404, { error_message: "there is nothing here but /healthz, /readyz and /metrics" });
      }
      if (method === "GET" || method === "HEAD") return route();
      return json(405, { error_message: "the method must be GET" }, { allow: "GET, HEAD" });
    },
    error(error) {
      log.error("admin-failed", describe(error));
      return json(500, { error_message: "something went wrong" });
    },
  });
  log.info("admin-listening", { host: address.host, port: server.port });
}

const isReady = ({ reasons }: Readiness) => reasons.length === 0;

function json(status: number, body: object, headers: Record<string, string> = {}): Response {
  return Response.json(body, { status, headers: { "cache-control": "no-store", ...headers } });
}
