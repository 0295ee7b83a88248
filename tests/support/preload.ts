// Preloaded by bunfig.toml for each test file. Without --parallel or --isolate, bun preloads once, and forgets the time
// limit after the first file.

import { afterAll, setDefaultTimeout } from "bun:test";
import { cleanUp } from "./at_exit.ts";
import { hangMs } from "./eventually.ts";

// Bun's own limit of five seconds measures the machine. A test contains several waits, each of which reports a hang
// before this limit does.
setDefaultTimeout(5 * hangMs);

afterAll(cleanUp);
