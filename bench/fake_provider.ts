// A fake of Resend's API that is cheap enough not to be what a benchmark measures: it accepts everything, and counts.
// fakes/ has one that behaves like the real one. As a process of its own: DELAY_MS is how long it works on a request.

export interface ProviderStats {
  readonly requests: number;
  readonly emails: number;
  /** Emails that it had accepted before. */
  readonly duplicates: number;
  /** From the first request to the last acceptance. */
  readonly busyMs: number;
}

export interface FakeProvider {
  readonly url: string;
  stats(): ProviderStats;
  stop(): void;
}

interface Item {
  readonly tags?: readonly { readonly name: string; readonly value: string }[];
}

/** Its limit is never reached. */
const headers = { "ratelimit-limit": "1000000", "ratelimit-remaining": "1000000", "ratelimit-reset": "1" };

/** @param options.onReceipt called when a request has arrived, with `performance.now()` */
export function startFakeProvider(
  options: { readonly delayMs?: number; readonly onReceipt?: (nowMs: number) => void } = {},
): FakeProvider {
  const { delayMs = 0, onReceipt } = options;
  const accepted = new Set<string>();
  const counts = { requests: 0, emails: 0, duplicates: 0 };
  let firstMs: number | undefined;
  let lastMs = 0;
  const stats = () => ({ ...counts, busyMs: firstMs === undefined ? 0 : lastMs - firstMs });

  function accept({ tags }: Item): { id: string } {
    counts.emails += 1;
    const id = tags?.find(({ name }) => name === "email_id")?.value ?? "";
    if (accepted.has(id)) counts.duplicates += 1;
    accepted.add(id);
    return { id: Bun.randomUUIDv7() };
  }

  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    development: false,
    routes: { "/stats": () => Response.json(stats()) },
    async fetch(request) {
      const nowMs = performance.now();
      onReceipt?.(nowMs);
      firstMs ??= nowMs;
      counts.requests += 1;
      const body = (await request.json()) as Item | Item[];
      if (delayMs > 0) await Bun.sleep(delayMs);
      const answer = Array.isArray(body) ? { data: body.map(accept), errors: [] } : accept(body);
      lastMs = performance.now();
      return Response.json(answer, { headers });
    },
  });
  return { url: `http://127.0.0.1:${server.port}`, stats, stop: () => void server.stop(true) };
}

if (import.meta.main) {
  const { url } = startFakeProvider({ delayMs: Number(process.env["DELAY_MS"] ?? 0) });
  console.log(JSON.stringify({ event: "provider-listening", url }));
}
