import { containment } from "./suite.ts";

containment(() => undefined);
