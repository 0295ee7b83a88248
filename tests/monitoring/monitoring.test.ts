// The monitoring files against the metrics of real processes: alerts fire when they should, every query of the
// dashboard is valid, and neither they nor docs/monitoring.md names a metric that does not exist.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { adminOf, promtool, withAdmin } from "../support/admin.ts";
import { eventually } from "../support/eventually.ts";
import { post, startServer, startWorker } from "../support/service.ts";

const root = join(import.meta.dir, "../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const folder = mkdtempSync(join(tmpdir(), "reliable-email-monitoring-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Family -> type, of each kind of process. */
const shown = { server: new Map<string, string>(), worker: new Map<string, string>() };

beforeAll(async () => {
  const env = {
    PORT: "0",
    PROVIDERS: "sandbox",
    DATA_DIR: join(folder, "data"),
    DEFAULT_FROM: "shop@example.com",
    ...withAdmin,
  };
  const [server, worker] = await Promise.all([startServer(env), startWorker(env)]);
  const [ofServer, ofWorker] = await Promise.all([adminOf(server), adminOf(worker)]);
  await post(server.url, { subject: "Hi", body: "Hello", to: "jane@example.org" });
  shown.worker = await eventually("it is accepted", async () => {
    const { types, value } = await ofWorker.scrape();
    return value("reliable_email_queue_emails", { state: "sent" }) === 1 ? new Map(types) : undefined;
  });
  shown.server = new Map((await ofServer.scrape()).types);
  await Promise.all([server.kill(), worker.kill()]);
});

/** Metric families that a text names, including by a part of a histogram. */
function named(text: string): string[] {
  const all = new Map([...shown.server, ...shown.worker]);
  const names = text.match(/\b(?:reliable_email|process)_\w*[a-z]\b(?!_)/g) ?? [];
  return [
    ...new Set(
      names.map((name) => {
        const base = name.replace(/_(bucket|sum|count)$/, "");
        return all.get(base) === "histogram" ? base : name;
      }),
    ),
  ];
}

const missing = (text: string) =>
  named(text).filter((name) => !shown.server.has(name) && !shown.worker.has(name));

interface Panel {
  readonly id: number;
  readonly title: string;
  readonly targets?: readonly { readonly expr: string }[];
}

describe("alerts", () => {
  const rules = read("deploy/alerts.yml");

  test("Prometheus accepts them, and each uses existing metrics", async () => {
    expect((await promtool(["check", "rules", join(root, "deploy/alerts.yml")])).code).toBe(0);
    expect(named(rules).length).toBeGreaterThan(10);
    expect(missing(rules)).toEqual([]);
  });

  test("they fire when they should, and only then", async () => {
    const { code, output } = await promtool(["test", "rules", join(import.meta.dir, "alerts.yml")]);
    expect(code === 0 ? "" : output).toBe("");
    expect(missing(read("tests/monitoring/alerts.yml"))).toEqual([]);
  });

  test("each fires in a test", () => {
    const names = [...rules.matchAll(/- alert: (\w+)/g)].map(([, name]) => name!);
    const fired = [
      ...read("tests/monitoring/alerts.yml").matchAll(/alertname="(\w+)", alertstate|alertname: (\w+)/g),
    ];
    expect(names.length).toBeGreaterThan(10);
    expect(new Set(fired.map(([, expected, asked]) => expected ?? asked))).toEqual(new Set(names));
  });
});

describe("dashboard", () => {
  const { panels, uid } = JSON.parse(read("deploy/grafana.json")) as { panels: Panel[]; uid: string };
  const expressions = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));

  test("Prometheus accepts every query", async () => {
    expect(uid).toBe("reliable-email");
    expect(expressions.length).toBeGreaterThan(20);
    const path = join(folder, "dashboard.yml");
    const rules = expressions.map((expr, i) => ({
      record: `dashboard:${i}`,
      expr: expr.replaceAll("$__rate_interval", "5m").replaceAll("$job", "reliable-email"),
    }));
    writeFileSync(path, JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
    const { code, output } = await promtool(["check", "rules", path]);
    expect(code === 0 ? "" : output).toBe("");
  });

  test("it uses existing metrics, and its panels do not overlap", () => {
    expect(missing(expressions.join("\n"))).toEqual([]);
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  });
});

describe("docs/monitoring.md", () => {
  const page = read("docs/monitoring.md");

  test("its table lists exactly the existing metrics, with their process and type", () => {
    const documented = page.split("\n").flatMap((line) => {
      const [, name, process, type] = /^\| `(\w+)` \| (\w+), (\w+) \|/.exec(line) ?? [];
      return name === undefined ? [] : [`${name} ${process} ${type}`];
    });
    const all = new Map([...shown.server, ...shown.worker]);
    const there = [...all].map(([name, type]) => {
      const process = !shown.worker.has(name) ? "server" : shown.server.has(name) ? "both" : "worker";
      return `${name} ${process} ${type}`;
    });
    expect(documented.toSorted()).toEqual(there.toSorted());
  });

  test("the rest of its text names only existing metrics", () => {
    expect(missing(page)).toEqual([]);
  });

  test("it lists exactly the reasons of /readyz", () => {
    const code = read("lib/admin/readiness.ts");
    const words = new Set([...code.matchAll(/["`]([a-z]+): /g)].map(([, word]) => word));
    const documented = [...page.matchAll(/^\| `(\w+):` +\|/gm)].map(([, word]) => word);
    expect(new Set(documented)).toEqual(words);
  });

  test("its table of alerts lists exactly the existing alerts", () => {
    const names = [...read("deploy/alerts.yml").matchAll(/- alert: (\w+)/g)].map(([, name]) => name!);
    const documented = [...page.matchAll(/^\| `(ReliableEmail\w+)` +\|/gm)].map(([, name]) => name!);
    expect(documented.toSorted()).toEqual(names.toSorted());
  });
});
