// Creates the elements of the page. Data becomes text or an attribute, never markup.

export type Child = Node | string | number | false | undefined;

type Attributes = Readonly<Record<string, string | number | boolean | undefined>>;
type Listeners = {
  readonly [name in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[name]) => void;
};

/** @param attributes omitted if false or undefined */
export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Tag] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...nodesOf(children));
  return made;
}

export function on<Target extends HTMLElement>(target: Target, listeners: Listeners): Target {
  for (const [name, listener] of Object.entries(listeners)) {
    target.addEventListener(name, listener as EventListener);
  }
  return target;
}

export function button(label: string, action: () => void, attributes: Attributes = {}): HTMLButtonElement {
  return on(element("button", { type: "button", ...attributes }, label), { click: action });
}

/** Replaces the children. */
export function fill(parent: Element, ...children: readonly Child[]): void {
  parent.replaceChildren(...nodesOf(children));
}

/** Makes these the children without moving those that stay, so that focus and selection survive. */
export function reconcile(parent: Element, children: readonly Node[]): void {
  let next = parent.firstChild;
  for (const child of children) {
    if (child === next) next = next.nextSibling;
    else parent.insertBefore(child, next);
  }
  while (next !== null) {
    const after = next.nextSibling;
    next.remove();
    next = after;
  }
}

/** Elements by key. Each is created again only when its item has changed. */
export class Keyed<Item> {
  readonly #parent: Element;
  readonly #make: (item: Item) => Element;
  #known = new Map<string, { readonly text: string; readonly made: Element }>();

  constructor(parent: Element, make: (item: Item) => Element) {
    this.#parent = parent;
    this.#make = make;
  }

  show(items: readonly Item[], keyOf: (item: Item) => string): void {
    const shown = new Map<string, { readonly text: string; readonly made: Element }>();
    for (const item of items) {
      const text = JSON.stringify(item);
      const known = this.#known.get(keyOf(item));
      shown.set(keyOf(item), known?.text === text ? known : { text, made: this.#make(item) });
    }
    this.#known = shown;
    reconcile(
      this.#parent,
      [...shown.values()].map(({ made }) => made),
    );
  }
}

function nodesOf(children: readonly Child[]): (Node | string)[] {
  return children.flatMap((child) =>
    child === undefined || child === false ? [] : [child instanceof Node ? child : String(child)],
  );
}
