// What the service does not keep yet: scenarios that run in `npm run chaos` and judge, but not in the tests, and
// broken variants of rules that are not there to be broken. Both lists are to become empty.

import { faults } from "../../fakes/faults.ts";
import type { Variant } from "./variants.ts";

/** Take a name out once its scenario passes: from then on the tests run it. */
export const pendingScenarios: readonly string[] = ["gateway", "poison", "clock", "clock-redis"];

/** Give one its patches, and move it to variants.ts. */
export const pendingVariants: readonly Omit<Variant, "patches">[] = [
  {
    // A batch in doubt is taken apart by time and attempts alone, though Resend has accepted nothing since.
    name: "splits without evidence",
    queue: "embedded",
    under: {
      settings: { PROVIDERS: "resend:1", DOUBT_SPLIT_AFTER: "500ms" },
      resend: { rateLimit: 50 },
      oneSender: true,
      faults: [
        {
          do: "provider",
          name: "resend",
          fault: faults.serverErrorAfterAccepting,
          probability: 1,
          forMs: [8000, 8000],
        },
      ],
      pauseMs: [100, 100],
    },
    caughtAs: /accepted twice by Resend/,
  },
];
