// Emails as they appear in the sandbox's folder.

import { existsSync, watch } from "node:fs";
import { join } from "node:path";

/** Calls with the path of each email's file, once. The folder must be there. */
export function watchOutbox(folder: string, onArrival: (path: string) => void): void {
  const seen = new Set<string>();
  const watcher = watch(folder, (_, name) => {
    if (name === null || name.startsWith(".") || !name.endsWith(".eml") || seen.has(name)) return;
    const path = join(folder, name);
    // Files also are removed, by whoever cleans up.
    if (!existsSync(path)) return;
    seen.add(name);
    onArrival(path);
  });
  // It is a courtesy: whoever removes the folder gets no more lines.
  watcher.on("error", () => watcher.close());
}
