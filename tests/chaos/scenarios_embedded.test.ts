// Short runs of the fault-injection harness on the embedded queue.

import { shortRuns } from "./scenario_suite.ts";

shortRuns("embedded", 2);
