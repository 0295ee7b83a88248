// The admin port of a process: whether it is alive, whether it is ready, and its metrics. It is read only, asks
// nobody who they are, and belongs to one process alone: what another one said there would be about another one.

import type { Log } from "../runtime/log.ts";
import { contentType, type Family, format } from "./metrics.ts";
import type { Readiness } from "./readiness.ts";

export interface AdminAddress {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
}

/** What a process shows. */
export interface Shown {
  /** Rejects for bugs only; answers in time, whatever the store does. */
  families(): Promise<readonly Family[]>;
  readiness(): Promise<Readiness>;
}

export type Opened =
  | { readonly ok: true }
  /** Why the process cannot start. */
  | { readonly ok: false; readonly message: string };

/**
 * Longest silence of a reader, s: longer than readers commonly pause, so that a connection which stands can still be
 * used when there are no descriptors for a new one.
 */
const idleTimeout = 120;

/** It stays open until the process ends, so that one that drains can be looked at. @param address none if not wanted */
export function openAdminPort(address: AdminAddress | undefined, shown: Shown, log: Log): Opened {
  if (address === undefined) return { ok: true };
  const { host, port } = address;
  try {
    const server = Bun.serve({
      hostname: host,
      port,
      reusePort: false,
      development: false,
      idleTimeout,
      maxRequestBodySize: 1024,
      fetch: (request) => answer(request, shown),
      error(error) {
        log.error("admin-failed", { reason: error.name });
        return json(500, { error_message: "something went wrong" });
      },
    });
    log.info("admin-listening", { host, port: server.port });
    return { ok: true };
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    return {
      ok: false,
      message:
        code === "EADDRINUSE"
          ? `Cannot start: ADMIN_PORT ${port} is taken by another process: each needs one of its own, or ADMIN_PORT= for none`
          : `Cannot start: ADMIN_HOST ${host} and ADMIN_PORT ${port} cannot be listened on (${code})`,
    };
  }
}

async function answer(request: Request, shown: Shown): Promise<Response> {
  // Without a usable Host, Bun makes no absolute URL.
  const path = URL.parse(request.url, "http://localhost")?.pathname;
  if (path !== "/healthz" && path !== "/readyz" && path !== "/metrics") {
    return json(404, { error_message: "there is nothing here but /healthz, /readyz and /metrics" });
  }
  if (request.method !== "GET" && request.method !== "HEAD") {
    return json(405, { error_message: "the method must be GET" }, { allow: "GET, HEAD" });
  }
  switch (path) {
    case "/healthz":
      return json(200, { alive: true });
    case "/readyz": {
      const { reasons, paused, providers } = await shown.readiness();
      const ready = reasons.length === 0;
      return json(ready ? 200 : 503, { ready, paused, reasons, providers });
    }
    case "/metrics":
      return new Response(format(await shown.families()), { headers: { "content-type": contentType } });
  }
}

function json(status: number, body: object, headers: Record<string, string> = {}): Response {
  return Response.json(body, { status, headers: { "cache-control": "no-store", ...headers } });
}
