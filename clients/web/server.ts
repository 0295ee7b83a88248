// The server of the web client, which is for development. It listens on loopback only. The door checks every request and
// sets the headers of every answer.

import type { Config } from "../../lib/config/config.ts";
import { outboxIn } from "../../lib/providers/registry.ts";
import { describe } from "../../lib/runtime/errors.ts";
import { serveHttp, type Service, type ServiceContext, urlOf } from "../../lib/runtime/service.ts";
import { type ApiOptions, route } from "./api.ts";
import { loadAssets } from "./assets.ts";
import { Door, pathOf, refusal, seal } from "./door.ts";
import { Events } from "./events.ts";
import { Outbox } from "./outbox.ts";
import { QueueAccess } from "./queue_access.ts";
import { SecretPaths } from "./secret_paths.ts";
import { readSnapshot } from "./snapshot.ts";

export interface WebClient extends Service {
  /** The address that opens the page, with the token. */
  readonly address: string;
}

interface WebContext extends Pick<ServiceContext<Config>, "log"> {
  /** The worker's, whose `admin` reports the breakers. */
  readonly config: Config;
  /** The port of the server. Default: PORT. */
  readonly serverPort?: number;
}

const hostname = "127.0.0.1";
const bodyBytesMax = 40 * 1024 * 1024;

/** Listens on WEB_PORT, which must not be off. Throws `CannotStart`. */
export function startWebClient({ config, log, serverPort = config.port }: WebContext): WebClient {
  const door = new Door();
  const queue = new QueueAccess(config);
  const paths = new SecretPaths();
  const events = new Events({
    read: () => readSnapshot(queue),
    reasonOf: explain,
  });
  const options: ApiOptions = {
    queue,
    outbox: new Outbox(outboxIn(config.dataDir)),
    paths,
    submitUrl: `${urlOf(config.host, serverPort)}/`,
    onChange: () => events.poke(),
  };

  /** Explains a failure to the page. Logs an unexpected error instead of ending `dev`. */
  async function explain(error: unknown): Promise<string> {
    const reason = await queue.reasonOf(error);
    if (reason !== undefined) return reason;
    log.error("web-failed", describe(error));
    return "Something went wrong: the log has more";
  }

  async function respond(request: Request): Promise<Response> {
    const path = pathOf(request.url);
    if (path === "/api/events" && request.method === "GET") {
      server.timeout(request, 0);
      return new Response(events.open(), { headers: { "content-type": "application/jsonl" } });
    }
    const found = route(options, request);
    if (found !== undefined) return found;
    const secret = request.method === "GET" ? await paths.open(path) : undefined;
    if (secret !== undefined) return secret;
    const asset = request.method === "GET" ? (await loadAssets()).get(path) : undefined;
    if (asset === undefined) return refusal(404, "there is nothing here");
    return new Response(asset.bytes, { headers: { "content-type": asset.type } });
  }

  async function handle(request: Request): Promise<Response> {
    const refused = door.refuse(request, server.port ?? 0);
    if (refused !== undefined) return seal(refused);
    return seal(await respond(request).catch(async (error) => refusal(503, await explain(error))));
  }

  const server = serveHttp("WEB_", {
    hostname,
    port: config.webPort === "" ? 0 : config.webPort,
    reusePort: false,
    maxRequestBodySize: bodyBytesMax,
    fetch: handle,
    error(error) {
      log.error("web-failed", describe(error));
      return seal(refusal(500, "something went wrong"));
    },
  });
  return {
    address: `http://${hostname}:${server.port}/#${door.token}`,
    async drain() {
      events.close();
      await server.stop(true);
      await queue.close();
    },
  };
}
