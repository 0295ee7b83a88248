// The short name of what went wrong, as Node, Bun and SQLite give it: ENOSPC, EADDRINUSE, SQLITE_BUSY. Messages are left
// out where they may hold a path, a URL or what a client wrote.

/** Undefined for an error without one. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && error.code !== undefined
    ? String(error.code)
    : undefined;
}
