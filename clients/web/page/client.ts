// Requests to the web client's server, with the token, and the stream of events, which is reopened when it ends.

import type { Event } from "../protocol.ts";
import { element } from "./dom.ts";

const tokenName = "token";

/**
 * Moves a token from the address into the tab's storage, which no other tab and no other site sees.
 * @returns whether there was one
 */
export function takeToken(): boolean {
  const [, token] = /^#([\w-]{32})$/.exec(location.hash) ?? [];
  if (token === undefined) return false;
  sessionStorage.setItem(tokenName, token);
  history.replaceState(null, "", "/");
  return true;
}

/** A refusal in the server's own words, or a failure to reach it. */
export class Refused extends Error {
  readonly status: number;

  constructor(message: string, status: number) {
    super(message);
    this.status = status;
  }
}

/** Rejects with {@link Refused}. */
export async function request<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
  const response = await ask(path, {
    method,
    ...(body !== undefined && {
      body: JSON.stringify(body),
      headers: { "content-type": "application/json" },
    }),
  });
  return (await response.json()) as Answer;
}

/** Submits an email. Rejects with {@link Refused}. */
export async function submit(
  email: Readonly<Record<string, unknown>>,
  key = "",
): Promise<{ readonly id: string }> {
  const response = await ask("/api/send", {
    method: "POST",
    body: JSON.stringify(email),
    headers: { "content-type": "application/json", ...(key !== "" && { "idempotency-key": key }) },
  });
  return (await response.json()) as { readonly id: string };
}

/**
 * Saves a file. The browser requests it without the token, at a secret path from the answer. Rejects with
 * {@link Refused}.
 */
export async function save(address: string, name: string): Promise<void> {
  const { path } = await request<{ readonly path: string }>("GET", address);
  element("a", { href: path, download: name }).click();
}

async function ask(path: string, init: RequestInit): Promise<Response> {
  const headers = new Headers(init.headers);
  headers.set("authorization", `Bearer ${sessionStorage.getItem(tokenName) ?? ""}`);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch {
    throw new Refused("The web client does not answer: is it still running?", 0);
  }
  if (response.ok) return response;
  const answer = (await response.json().catch(() => ({}))) as { readonly error_message?: string };
  throw new Refused(answer.error_message ?? `The web client answers ${response.status}`, response.status);
}

export interface StreamWatcher {
  readonly onEvent: (event: Event) => void;
  /** The stream has ended. It is reopened unless the token was refused. */
  readonly onLost: (refusal: Refused) => void;
}

/** Pause before the stream is opened again, ms. */
const pauseMs = 1000;

/** Follows the events for as long as the page is there and its token is accepted. */
export async function follow({ onEvent, onLost }: StreamWatcher): Promise<void> {
  for (;;) {
    try {
      const response = await ask("/api/events", {});
      await readLines(response.body!, (line) => onEvent(JSON.parse(line) as Event));
      onLost(new Refused("The stream has ended", 0));
    } catch (error) {
      const refusal = error instanceof Refused ? error : new Refused("The stream has broken off", 0);
      onLost(refusal);
      if (refusal.status === 401) return;
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

async function readLines(body: ReadableStream<Uint8Array>, onLine: (line: string) => void): Promise<void> {
  const reader = body
    .pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)
    .getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) onLine(line);
  }
}
