// `npm run web`: the web client alone, next to a service that runs with the same settings as this process.

import { readConfig } from "../../lib/config/config.ts";
import { CannotStart, runProcess } from "../../lib/runtime/service.ts";
import { startWebClient } from "./server.ts";

await runProcess(readConfig(process.env, "worker"), ({ config, log }) => {
  if (config.webPort === "") throw new CannotStart("WEB_PORT is empty, which turns the web client off");
  const client = startWebClient({ config, log });
  console.log(`Web client  ${client.address}`);
  return client;
});
