// Ends processes and removes folders when a test file or a program ends, in case a failed test has not done so itself.
// Bun's test runner emits no "exit", so preload.ts calls {@link cleanUp} there.

const steps = new Set<() => void>();

/** @param step called once or twice, at the end of a test file or of a program */
export function atExit(step: () => void): void {
  steps.add(step);
}

export function cleanUp(): void {
  for (const step of steps) step();
}

process.on("exit", cleanUp);
