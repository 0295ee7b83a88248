// A sleep that can be ended early.

export interface Bell {
  /** Ends the sleep; while nobody sleeps, the next one. */
  ring(): void;
  /** Resolves after `ms`, or when it rings. For one sleeper. */
  wait(ms: number): Promise<void>;
}

export function openBell(): Bell {
  let rung = false;
  let wake = () => {};
  return {
    ring() {
      rung = true;
      wake();
    },
    async wait(ms) {
      if (!rung) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, ms);
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
      rung = false;
      wake = () => {};
    },
  };
}
