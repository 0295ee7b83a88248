// A sleep that can be ended early.

export interface Wakeup {
  /** Ends the sleep; while nobody sleeps, the next one. */
  signal(): void;
  /** Resolves after `ms`, or when it rings. For one sleeper. */
  wait(ms: number): Promise<void>;
}

export function createWakeup(): Wakeup {
  let rung = false;
  let wake = () => {};
  return {
    signal() {
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
