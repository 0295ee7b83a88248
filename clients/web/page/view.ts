// What every view of the page is.

export interface View {
  readonly title: string;
  readonly element: HTMLElement;
  /** Called after every event, and once at first. */
  update?(): void;
  /** Called before another view takes its place. */
  leave?(): void;
}
