// Short runs of the fault-injection harness on Redis.

import { shortRuns } from "./scenario_suite.ts";

shortRuns("redis", 2);
