// The contract of the rates of providers. All workers share a provider's rate, for each credential: a store counts the
// permits, and keeps what workers learn from the provider's answers. What an answer means is decided in policy/.

/** A provider's rate, which all workers share; as the store knew it when it answered. */
export interface SharedRate {
  readonly perSecond: number;
  /** As the provider named it last. */
  readonly limitPerSecond?: number | undefined;
  /** Counts the throttlings and the changes of the limit. */
  readonly version: number;
  /** Throttlings in a row, by the last {@link RateChange}. */
  readonly throttles: number;
  /** Until the next permit is available, unless another worker takes it, ms; 0 if there is one. */
  readonly nextInMs: number;
}

/** The use of a permit. */
export type RateChange =
  /** No request was made. */
  | { readonly kind: "unused" }
  /** The answer to its request, as far as it concerns the rate. */
  | {
      readonly kind: "learned";
      /**
       * {@link SharedRate.version} when the permit was taken. If it has changed since, others have learned the same, and
       * only a limit and a pause count.
       */
      readonly version: number;
      /** The rate is multiplied by `factor`, and `step` is added. Then it is between the bounds. */
      readonly factor: number;
      readonly step: number;
      readonly minPerSecond: number;
      readonly maxPerSecond: number;
      /** Throttlings in a row. If positive, this is one. */
      readonly throttles: number;
      /** If the answer names one: no higher rate than `maxPerSecond`. */
      readonly limitPerSecond?: number | undefined;
      /** No permits for this time, ms, unless the pause under way ends later. At most an hour. */
      readonly pauseMs: number;
    };

/** The provider and credential whose rate it is. */
export interface PermitRequest {
  readonly provider: string;
  readonly credential: string;
  /** See `startPerSecond` of a claim. */
  readonly startPerSecond: number;
}
