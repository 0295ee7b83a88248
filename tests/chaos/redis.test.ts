// Short runs of the fault-injection harness on Redis.

import { shortRuns } from "./short.ts";

shortRuns("redis");
