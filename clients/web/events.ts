// The stream of events: takes a snapshot twice a second while somebody watches, and none otherwise. Each watcher reads
// JSON lines.

import type { Event, Snapshot } from "./protocol.ts";

/** Pause between two snapshots, ms. */
const pauseMs = 500;
/** An unchanged snapshot is repeated after this time, so that the page's clock stays right, ms. */
const repeatMs = 2000;

export interface EventSource {
  readonly read: () => Promise<Snapshot>;
  /** Why `read` has rejected, for the page. Never rejects. */
  readonly reasonOf: (error: unknown) => Promise<string>;
}

type Watcher = ReadableStreamDefaultController<Uint8Array>;

export class Events {
  readonly #source: EventSource;
  readonly #watchers = new Set<Watcher>();
  /** Wakes the loop before its pause is over. */
  #wake: (() => void) | undefined;
  #isRunning = false;
  #last = { text: "", atMs: 0 };

  constructor(source: EventSource) {
    this.#source = source;
  }

  /** The number of watchers. */
  get watchers(): number {
    return this.#watchers.size;
  }

  /** Returns a stream for one more watcher, who cancels it to leave. */
  open(): ReadableStream<Uint8Array> {
    let watcher: Watcher;
    return new ReadableStream<Uint8Array>({
      start: (controller) => {
        watcher = controller;
        this.#watchers.add(controller);
        this.#last = { text: "", atMs: 0 };
        if (!this.#isRunning) void this.#run();
        this.poke();
      },
      cancel: () => {
        this.#watchers.delete(watcher);
        this.poke();
      },
    });
  }

  /** Takes a snapshot immediately, because something has changed. */
  poke(): void {
    this.#wake?.();
  }

  /** Ends every stream. */
  close(): void {
    for (const watcher of this.#watchers) watcher.close();
    this.#watchers.clear();
    this.poke();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#watchers.size > 0) {
      const { promise: woken, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      this.#send(await this.#look());
      const timer = setTimeout(resolve, pauseMs);
      await woken;
      clearTimeout(timer);
    }
    this.#isRunning = false;
  }

  async #look(): Promise<Event> {
    try {
      return { kind: "snapshot", snapshot: await this.#source.read() };
    } catch (error) {
      return { kind: "failure", reason: await this.#source.reasonOf(error) };
    }
  }

  #send(event: Event): void {
    const text = JSON.stringify(event.kind === "snapshot" ? { ...event.snapshot, nowMs: 0 } : event);
    const nowMs = performance.now();
    if (text === this.#last.text && nowMs < this.#last.atMs + repeatMs) return;
    this.#last = { text, atMs: nowMs };
    const line = new TextEncoder().encode(`${JSON.stringify(event)}\n`);
    for (const watcher of this.#watchers) {
      // A page that does not read, such as a sleeping tab, misses snapshots; the next one is complete.
      if ((watcher.desiredSize ?? 0) > 0) watcher.enqueue(line);
    }
  }
}
