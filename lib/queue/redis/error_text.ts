// Errors of Redis and of its driver, in words for an operator.

/** The error, in Redis's words or, where ioredis names its own options, in plain ones. */
export function redisErrorText(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  if (text.startsWith("Stream isn't writeable") || text === "Connection is closed.") return "not connected";
  if (text.startsWith("Reached the max retries per request")) return "the connection broke before the answer";
  // Redis quotes the arguments of a command that it does not know: emails are among them.
  return text.replace(/, with args beginning with:.*/s, "");
}

/** Temporary refusals: a start, a failover, missing replicas, a queue that has to be created again. All others are final. */
const passing =
  /^(NOQUEUE|LOADING|READONLY|MASTERDOWN|NOREPLICAS|TRYAGAIN|MOVED|ASK|CLUSTERDOWN|BUSY|NOSCRIPT|UNBLOCKED)/;
/** The error replies of Redis begin with a code in capitals. */
const refusal = /^[A-Z][A-Z_]+ /;

/** Whether Redis refused a command, and would refuse it again. */
export function isFinalRefusal(reason: string): boolean {
  return refusal.test(reason) && !passing.test(reason);
}

/** A write that too few replicas hold: it was made, but a failover could undo it. */
export function shortfallText(replicas: number, minReplicas: number): string {
  return `${replicas} replicas acknowledged, REDIS_MIN_REPLICAS is ${minReplicas}`;
}
