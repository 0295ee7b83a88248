// Fastify and BullMQ on Node: a schema checks the form, and each one becomes a job.

import formBody from "@fastify/formbody";
import Fastify from "fastify";
import { openAdd } from "./queue.mjs";

const add = openAdd();
const server = Fastify();
await server.register(formBody);

const text = { type: "string", minLength: 1, maxLength: 2000 };
const schema = {
  body: {
    type: "object",
    required: ["subject", "body", "to"],
    properties: {
      subject: text,
      body: { type: "string", minLength: 1 },
      to: { ...text, pattern: "^[^@]+@[^@]+$" },
      to_name: text,
    },
  },
  response: { 200: { type: "object", properties: { ok: { type: "boolean" }, id: { type: "string" } } } },
};

server.post("/", { schema }, async ({ body: { subject, body, to, to_name } }) => {
  const { id } = await add({ subject, body, to, to_name, from: "shop@example.com" });
  return { ok: true, id };
});

await server.listen({ host: "127.0.0.1", port: 0 });
console.log(JSON.stringify({ event: "server-listening", port: server.server.address().port }));
