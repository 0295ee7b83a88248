// submit: wrk posts forms to the server on both queues, to the same handler without I/O, and to a naive server. Each
// has its own store, which fsyncs every write.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Process, startProcess } from "../tests/support/service.ts";
import { cpuMicros } from "./cpu.ts";
import { startStore, type Store, type StoreKind } from "./store.ts";
import { median, round, type Table } from "./table.ts";

const connectionCounts = [1, 128];

/** 600 bytes of a plausible email. */
const form = new URLSearchParams({
  subject: "Your order has been shipped",
  body: `Dear Jane,\n\nyour order 17 is on its way.\n\n${"It will be with you soon. ".repeat(14)}`,
  to: "jane@example.org",
  to_name: "Jane Doe",
}).toString();

interface Contestant {
  readonly name: string;
  readonly port: number;
  readonly server: Process;
  readonly store: Store | undefined;
}

interface Sample {
  readonly rate: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly serverMicros: number;
  readonly storeMicros: number;
  readonly emailsPerCall: number;
  readonly errors: number;
}

export async function benchSubmit(options: { rounds: number; seconds: number }): Promise<Table> {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-bench-"));
  const script = join(folder, "form.lua");
  writeFileSync(
    script,
    `wrk.method = "POST"
wrk.body = ${JSON.stringify(form)}
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %f %f %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
`,
  );
  const contestants = [
    await start("reliable-email, embedded", "server.ts", "embedded"),
    await start("reliable-email, Redis", "server.ts", "redis"),
    await start("handler without I/O", "bench/servers/no-io.ts"),
    await start("naive, one XADD per request", "bench/servers/naive.ts", "redis"),
  ];
  const samples = new Map<string, Sample[]>();
  for (const one of contestants) for (const count of connectionCounts) await measure(one, script, count, 1);
  for (let n = 0; n < options.rounds; n += 1) {
    for (const count of connectionCounts) {
      for (const one of contestants) {
        const key = `${one.name}/${count}`;
        samples.set(key, [...(samples.get(key) ?? []), await measure(one, script, count, options.seconds)]);
      }
    }
  }
  for (const { server } of contestants) await server.kill();
  for (const { store } of contestants) await store?.stop();
  rmSync(folder, { recursive: true });

  const of = (name: string, count: number, field: keyof Sample) =>
    median((samples.get(`${name}/${count}`) ?? []).map((sample) => sample[field]));
  const [embedded, ours, bare, naive] = contestants.map(({ name }) => name) as [
    string,
    string,
    string,
    string,
  ];
  return {
    name: "submit",
    notes: [
      `${form.length} bytes of form; Redis with appendfsync always; medians of ${options.rounds} rounds of ${options.seconds} s, interleaved`,
    ],
    rows: connectionCounts.flatMap((count) =>
      contestants.map(({ name }) => ({
        server: name,
        connections: count,
        "requests/s": round(of(name, count, "rate"), 0),
        "p50 ms": round(of(name, count, "p50Ms"), 2),
        "p99 ms": round(of(name, count, "p99Ms"), 2),
        "server CPU µs": round(of(name, count, "serverMicros")),
        "Redis CPU µs": round(of(name, count, "storeMicros")),
        "emails/call": round(of(name, count, "emailsPerCall")),
        errors: of(name, count, "errors"),
      })),
    ),
    ratios: {
      "embedded: server CPU per email at 128, to the handler without I/O":
        of(embedded, 128, "serverMicros") / of(bare, 128, "serverMicros"),
      "embedded: requests/s at 128, to the naive server's":
        of(embedded, 128, "rate") / of(naive, 128, "rate"),
      "Redis: server CPU per email at 128, to the handler without I/O":
        of(ours, 128, "serverMicros") / of(bare, 128, "serverMicros"),
      "Redis: requests/s at 128, to the naive server's": of(ours, 128, "rate") / of(naive, 128, "rate"),
      "Redis: requests/s at 128, to the handler without I/O": of(ours, 128, "rate") / of(bare, 128, "rate"),
      "Redis: Redis CPU per email at 128, to the naive server's":
        of(ours, 128, "storeMicros") / of(naive, 128, "storeMicros"),
      "Redis: p99 at 128, to the naive server's": of(ours, 128, "p99Ms") / of(naive, 128, "p99Ms"),
      "Redis: p50 at 1, to the naive server's": of(ours, 1, "p50Ms") / of(naive, 1, "p50Ms"),
    },
  };
}

async function start(name: string, file: string, kind?: StoreKind): Promise<Contestant> {
  const store = kind && (await startStore(kind));
  const server = startProcess(file, {
    PORT: "0",
    DEFAULT_FROM: "shop@example.com",
    LOG_LEVEL: "info",
    ...store?.env,
  });
  const { port } = await server.event("server-listening");
  return { name, port: Number(port), server, store };
}

async function measure(
  { port, server, store }: Contestant,
  script: string,
  connections: number,
  seconds: number,
): Promise<Sample> {
  const used = () => ({
    server: cpuMicros(server.pid),
    store: store?.cpuMicros() ?? 0,
    calls: store?.calls("evalsha|xadd") ?? 0,
  });
  const before = used();
  const wrk = Bun.spawn(
    ["wrk", "-t1", `-c${connections}`, `-d${seconds}s`, "-s", script, `http://127.0.0.1:${port}/`],
    {
      stdout: "pipe",
    },
  );
  const output = await new Response(wrk.stdout).text();
  const result = /RESULT (\d+) (\d+) ([\d.]+) ([\d.]+) (\d+)/.exec(output);
  if (result === null) throw new Error(`wrk: ${output}`);
  const [requests, micros, p50, p99, errors] = result.slice(1).map(Number) as [
    number,
    number,
    number,
    number,
    number,
  ];
  const after = used();
  return {
    rate: requests / (micros / 1e6),
    p50Ms: p50 / 1000,
    p99Ms: p99 / 1000,
    serverMicros: (after.server - before.server) / requests,
    storeMicros: (after.store - before.store) / requests,
    emailsPerCall: after.calls > before.calls ? requests / (after.calls - before.calls) : 0,
    errors,
  };
}
