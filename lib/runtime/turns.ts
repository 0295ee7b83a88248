// Turns of the event loop. Work that takes milliseconds waits for a turn of its own, so that other events wait for one such
// piece of work at most.

interface Waiter {
  readonly bytesLeft: number;
  readonly resolve: () => void;
}

/** In the order of their calls. */
const waiters: Waiter[] = [];

/**
 * Resolves in a turn of the event loop that no other caller gets. The caller with the fewest bytes left comes first, so that
 * work that has begun ends before more of the same size begins.
 */
export function ownTurn(bytesLeft: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  waiters.push({ bytesLeft, resolve });
  if (waiters.length === 1) setImmediate(admitFirst);
  return promise;
}

function admitFirst(): void {
  let first = 0;
  for (const [i, { bytesLeft }] of waiters.entries()) if (bytesLeft < waiters[first]!.bytesLeft) first = i;
  const [waiter] = waiters.splice(first, 1);
  waiter!.resolve();
  if (waiters.length > 0) setImmediate(admitFirst);
}

let lastPause = Promise.resolve();

/**
 * Resolves in a turn of the event loop that no other caller gets. The next caller waits until this one's turn is over, and
 * then once more as long: other work, which takes several turns, goes on in half of the time.
 */
export function longTurn(): Promise<void> {
  const begun = lastPause.then(nextTurn);
  lastPause = begun.then(async () => {
    const startMs = performance.now();
    await nextTurn();
    await Bun.sleep(performance.now() - startMs);
  });
  return begun;
}

let turn: Promise<void> | undefined;

/**
 * Resolves in the next turn of the event loop. Bun hands over a body before it looks at what follows. If that is not a
 * request (a trailer, a stray line end), or comes too early (pipelining), Bun itself answers 400 or closes the connection
 * in the same turn: the client would not learn that its email was queued. Requests share one timer: one each would cost
 * 15 µs more CPU time.
 */
export function nextTurn(): Promise<void> {
  turn ??= new Promise((resolve) => {
    setImmediate(() => {
      turn = undefined;
      resolve();
    });
  });
  return turn;
}
