// The interface of a view of the page.

export interface View {
  readonly title: string;
  readonly element: HTMLElement;
  /** Called after every event, and once at first. */
  update?(): void;
  /** Shows the part of the view that the rest of the address names. A view without it is created again instead. */
  choose?(argument: string): void;
  /** Called before another view takes its place. */
  leave?(): void;
}
