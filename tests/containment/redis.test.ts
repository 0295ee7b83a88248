import { sharedRedis } from "../support/worlds.ts";
import { containment } from "./containment.ts";

containment(sharedRedis());
