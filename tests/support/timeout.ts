// Preloaded by bunfig.toml: bun's own limit of five seconds per test measures the machine. It applies to every file of
// `npm test`. Without --parallel or --isolate, bun preloads once and forgets it after the first file.

import { setDefaultTimeout } from "bun:test";
import { hangMs } from "./eventually.ts";

// A test contains several waits, each of which reports a hang before this limit does.
setDefaultTimeout(5 * hangMs);
