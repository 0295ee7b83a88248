// Simulates the fleet of docs/capacity.md, and puts its chart and its numbers there: `npx bun docs/images/draw_outage.ts`.
// It takes a few minutes.

import { join } from "node:path";
import { fillPage, fleetPart } from "../../bench/capacity/page.ts";
import { simulateFleet } from "../../bench/fleet/fleet.ts";
import { reportFleet } from "../../bench/fleet/report.ts";
import { createScenario, fullOptions } from "../../bench/fleet/scenario.ts";
import { drawOutage } from "./outage_chart.ts";

const scenario = createScenario(fullOptions);
const result = simulateFleet(scenario);
await Bun.write(join(import.meta.dir, "outage.svg"), drawOutage(scenario, result));
const page = join(import.meta.dir, "../capacity.md");
const part = fleetPart(reportFleet(scenario, result));
await Bun.write(page, fillPage(await Bun.file(page).text(), { fleet: part }));
