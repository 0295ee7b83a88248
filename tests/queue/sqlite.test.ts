// The conformance suite on the embedded queue.

import { conformance } from "./conformance.ts";
import { conformanceClock } from "./conformance_clock.ts";
import { conformanceFiles } from "./conformance_files.ts";
import { openSqliteQueue } from "./sqlite_queue.ts";

conformance("embedded queue", openSqliteQueue);
conformanceClock("embedded queue", openSqliteQueue);
conformanceFiles("embedded queue", openSqliteQueue);
