// The service's own handler with a queue that answers "stored" immediately: the cost of the HTTP side alone.

import { createLog } from "../../lib/runtime/log.ts";
import { Handler } from "../../lib/http/handler.ts";

const handler = new Handler({
  producer: { submit: ({ id }) => Promise.resolve({ kind: "stored", id, repeated: false }) },
  host: "127.0.0.1",
  defaultFrom: "shop@example.com",
  maxBodyBytes: 1_048_576,
  submitTimeoutMs: 10_000,
  log: createLog({ level: "error" }),
});
const server = Bun.serve({ port: 0, development: false, fetch: (request) => handler.handle(request) });
console.log(JSON.stringify({ event: "server-listening", port: server.port }));
