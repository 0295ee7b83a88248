// Computes the tables of docs/capacity.md anew, from the costs in costs.json: `npx bun bench/capacity/main.ts`.

import { join } from "node:path";
import measured from "./costs.json";
import { createParts, fillPage } from "./page.ts";
import { Costs } from "./plan.ts";

const page = join(import.meta.dir, "../../docs/capacity.md");
await Bun.write(page, fillPage(await Bun.file(page).text(), createParts(new Costs(measured.tables[0]!))));
