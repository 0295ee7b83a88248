// Short runs of the fault-injection harness on Redis Cluster.

import { shortRuns } from "./scenario_suite.ts";

shortRuns("cluster", 1);
