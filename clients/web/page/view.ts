// What every view of the page is.

export interface View {
  readonly title: string;
  readonly element: HTMLElement;
  /** Called after every event, and once at first. */
  update?(): void;
  /** Shows something else of the same view, by the rest of the address. Without it, the view is made anew. */
  choose?(argument: string): void;
  /** Called before another view takes its place. */
  leave?(): void;
}
