// docs/upgrading.md: new units and processes replace running ones, and continue with the same queue.

import { expect } from "bun:test";
import { testPage } from "./page.ts";
import { bothReady, installService, submit, untilCounted } from "./service.ts";

testPage("docs/upgrading.md", async (page, machine) => {
  const { run, until } = machine;
  await installService(machine, "PROVIDERS=sandbox", "DEFAULT_FROM=shop@example.com");
  expect(await run(page.next("reliable-email --version"))).toStartWith("reliable-email ");
  await run("sed -i 's/^RestartSec=1$/RestartSec=2/' /etc/systemd/system/reliable-email-*.service");
  await run(page.next("systemctl daemon-reload"));
  const worker = page.next("systemctl restart reliable-email-worker");
  for (const line of [worker, worker.replace("worker", "server")]) {
    await run(line);
    await until(bothReady);
    await submit(machine);
  }
  expect(await run("systemctl show --property RestartUSec reliable-email-server")).toBe("RestartUSec=2s\n");
  await untilCounted(machine, "sent", 2);
});
