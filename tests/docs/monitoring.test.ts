// docs/monitoring.md: the readiness of a worker, and the configuration of Prometheus.

import { expect } from "bun:test";
import { testPage } from "./page.ts";

testPage("docs/monitoring.md", async (page, machine) => {
  const { open, run, until } = machine;
  open("PROVIDERS=sandbox npm run worker");
  await until("curl --fail-with-body localhost:3002/readyz");
  const ready = JSON.parse(await run(page.next("curl localhost:3002/readyz")));
  expect(ready).toEqual({ ready: true, paused: false, reasons: [], providers: { sandbox: "works" } });

  const folder = "/etc/prometheus";
  await run(`mkdir -p ${folder} && cp deploy/alerts.yml ${folder} && cat > ${folder}/prometheus.yml`, {
    typed: page.next("rule_files"),
  });
  const checked = await run(`promtool check config ${folder}/prometheus.yml`);
  expect(checked).toContain("SUCCESS: 1 rule files found");
  expect(checked).toContain("rules found");
});
