import { containment } from "./containment.ts";

containment(() => undefined);
