// What may be said of an error whose message may hold a path, a URL, or what a client, a provider or a store wrote: its
// code, as Node, Bun and SQLite give it (ENOSPC, EADDRINUSE, SQLITE_BUSY), its name, and where it was thrown.

/** Undefined for an error without one. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && error.code !== undefined
    ? String(error.code)
    : undefined;
}

/** For the log: of an error that nobody expected, all but its message. */
export function describe(error: unknown): { reason: string; place: string } {
  if (!(error instanceof Error)) return { reason: typeof error, place: "" };
  const code = errorCode(error);
  const place = /^\s+at .*$/m.exec(error.stack ?? "")?.[0] ?? "";
  return { reason: code === undefined ? error.name : `${error.name} (${code})`, place: place.trim() };
}
