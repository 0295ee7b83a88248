// Short runs of the fault-injection harness on Redis with Sentinel.

import { shortRuns } from "./scenario_suite.ts";

shortRuns("sentinel", 1);
