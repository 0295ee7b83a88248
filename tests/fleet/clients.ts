// The clients of a fleet, as a process of its own, since they are on another host than the test: they submit unique
// emails at a steady rate until SIGTERM, each once, every third without an Idempotency-Key. They write a line for each
// answer.
//
// bun clients.ts URL EMAILS_PER_SECOND

export interface Answer {
  readonly subject: string;
  readonly hasKey: boolean;
  /** 0 without an answer. */
  readonly status: number;
  readonly id?: string;
  readonly error?: string;
  readonly tookMs: number;
}

/** Longest wait for an answer, ms: as docs/clients.md recommends. */
const patienceMs = 20_000;

const [url = "", rate = ""] = process.argv.slice(2);
const open = new Set<Promise<void>>();
let count = 0;

async function submit(n: number): Promise<void> {
  const subject = `email-${n}`;
  const hasKey = n % 3 !== 0;
  const startMs = performance.now();
  const result = await exchange(subject, hasKey, n % 2 === 0).catch((error) => ({
    status: 0,
    error: String(error),
  }));
  const tookMs = Math.round(performance.now() - startMs);
  console.log(JSON.stringify({ subject, hasKey, tookMs, ...result } satisfies Answer));
}

async function exchange(subject: string, hasKey: boolean, keepalive: boolean) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...(hasKey && { "idempotency-key": subject }) },
    body: JSON.stringify({ subject, body: `Body of ${subject}`, to: "jane@example.org" }),
    keepalive,
    tls: { rejectUnauthorized: false },
    signal: AbortSignal.timeout(patienceMs),
  });
  const { id, error_message: error } = (await response.json()) as { id?: string; error_message?: string };
  return { status: response.status, ...(id !== undefined && { id }), ...(error !== undefined && { error }) };
}

const timer = setInterval(
  () => {
    count += 1;
    const one = submit(count);
    open.add(one);
    void one.then(() => open.delete(one));
  },
  1000 / Number(rate),
);

process.on("SIGTERM", () => {
  clearInterval(timer);
  void Promise.all(open).then(() => process.exit(0));
});
