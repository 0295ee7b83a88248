// A fake of Resend's API that is cheap enough not to be what a benchmark measures: it accepts everything, and counts.
// fakes/ has one that behaves like the real one. As a process of its own: DELAY_MS is how long it works on a request, and
// with ARRIVALS it remembers when each email arrived.

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

export interface FakeProviderOptions {
  readonly delayMs?: number;
  readonly keepsArrivals?: boolean;
  /** Called when a request has arrived, with `performance.now()`. */
  readonly onReceipt?: (nowMs: number) => void;
}

export function startFakeProvider(options: FakeProviderOptions = {}): FakeProvider {
  const { delayMs = 0, keepsArrivals = false, onReceipt } = options;
  const accepted = new Set<string>();
  /** When the request with each email arrived, by the email's id, Unix ms with fractions. */
  const arrivals = new Map<string, number>();
  const counts = { requests: 0, emails: 0, duplicates: 0 };
  let firstMs: number | undefined;
  let lastMs = 0;
  const stats = () => ({ ...counts, busyMs: firstMs === undefined ? 0 : lastMs - firstMs });

  function accept({ tags }: Item, receivedMs: number): { id: string } {
    counts.emails += 1;
    const id = tags?.find(({ name }) => name === "email_id")?.value ?? "";
    if (keepsArrivals) arrivals.set(id, performance.timeOrigin + receivedMs);
    if (accepted.has(id)) counts.duplicates += 1;
    accepted.add(id);
    return { id: Bun.randomUUIDv7() };
  }

  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    development: false,
    routes: {
      "/stats": () => Response.json(stats()),
      "/arrivals/:id": ({ params }) => new Response(String(arrivals.get(params.id) ?? 0)),
    },
    async fetch(request) {
      const nowMs = performance.now();
      onReceipt?.(nowMs);
      firstMs ??= nowMs;
      counts.requests += 1;
      const body = await readItems(request);
      if (delayMs > 0) await Bun.sleep(delayMs);
      const answer = Array.isArray(body)
        ? { data: body.map((item) => accept(item, nowMs)), errors: [] }
        : accept(body, nowMs);
      lastMs = performance.now();
      return Response.json(answer, { headers });
    },
  });
  return { url: `http://127.0.0.1:${server.port}`, stats, stop: () => void server.stop(true) };
}

/** Larger bodies are not parsed: other requests would wait meanwhile. */
const parsedMax = 1_000_000;
const idTag = Buffer.from('{"name":"email_id","value":"');
const idLength = 36;

async function readItems(request: Request): Promise<Item | Item[]> {
  if (Number(request.headers.get("content-length")) <= parsedMax)
    return (await request.json()) as Item | Item[];
  const bytes = Buffer.from(await request.arrayBuffer());
  const at = bytes.indexOf(idTag) + idTag.length;
  return { tags: [{ name: "email_id", value: bytes.toString("latin1", at, at + idLength) }] };
}

if (import.meta.main) {
  const { url } = startFakeProvider({
    delayMs: Number(process.env["DELAY_MS"] ?? 0),
    keepsArrivals: process.env["ARRIVALS"] !== undefined,
  });
  console.log(JSON.stringify({ event: "provider-listening", url }));
}
