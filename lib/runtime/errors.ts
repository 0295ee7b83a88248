// The parts of an error that may be logged: its code, its name and where it was thrown. Its message may hold a path, a
// URL, or something that a client, a provider or a store wrote.

/** The code that Node, Bun or SQLite gave an error, such as ENOSPC, EADDRINUSE or SQLITE_BUSY. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && error.code !== undefined
    ? String(error.code)
    : undefined;
}

export function describe(error: unknown): { reason: string; place: string } {
  if (!(error instanceof Error)) return { reason: typeof error, place: "" };
  const code = errorCode(error);
  const place = /^\s+at .*$/m.exec(error.stack ?? "")?.[0] ?? "";
  return { reason: code === undefined ? error.name : `${error.name} (${code})`, place: place.trim() };
}
