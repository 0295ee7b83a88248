// Preloaded by bunfig.toml: bun's own limit of five seconds for a test measures the machine. It holds for every file of
// `npm test`. Without --parallel or --isolate, bun preloads once and forgets it after the first file.

import { setDefaultTimeout } from "bun:test";
import { hangMs } from "./eventually.ts";

// A test waits several times. What hangs is named by the wait in which it does, and so before this.
setDefaultTimeout(5 * hangMs);
