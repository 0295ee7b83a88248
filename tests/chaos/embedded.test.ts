// Short runs of the fault-injection harness on the embedded queue.

import { shortRuns } from "./short.ts";

shortRuns("embedded");
