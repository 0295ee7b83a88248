// The page: takes its token, follows the events, and shows one view at a time, by the fragment of the address.

import { follow, type Refused, takeToken } from "./client.ts";
import { ComposeView } from "./compose_view.ts";
import { DeliveredView } from "./delivered_view.ts";
import { element, fill, on } from "./dom.ts";
import { EmailView } from "./email_view.ts";
import { number, tick } from "./format.ts";
import { Live } from "./live.ts";
import { ProvidersView } from "./providers_view.ts";
import { QueueView } from "./queue_view.ts";
import type { View } from "./view.ts";

const live = new Live();

/** By the first word of the fragment; the rest is an argument. */
const views: Readonly<
  Record<string, { readonly label: string; readonly create: (live: Live, argument: string) => View }>
> = {
  queue: {
    label: "Queue",
    create: (known, argument) => (argument === "" ? new QueueView(known) : new EmailView(argument)),
  },
  compose: { label: "Compose", create: (known) => new ComposeView(known) },
  delivered: { label: "Delivered", create: (known, argument) => new DeliveredView(known, argument) },
  providers: { label: "Providers", create: (known) => new ProvidersView(known) },
};

const links = new Map(
  Object.entries(views).map(([name, { label }]) => [
    name,
    element("a", { href: `#/${name}` }, label, element("span", { class: "count" })),
  ]),
);
const connection = element("p", { class: "connection", role: "status" }, "Connecting");
const notice = element("p", { class: "notice", role: "alert", hidden: true });
const main = element("main", { id: "main", tabindex: -1 });

let view: View | undefined;

function navigate(): void {
  // The address of a later start, opened in the same tab.
  if (takeToken()) return location.reload();
  const [, name = "queue", argument = ""] = /^#\/(\w+)\/?(.*)$/.exec(location.hash) ?? [];
  const { create } = views[name] ?? views["queue"]!;
  view?.leave?.();
  view = create(live, decodeURIComponent(argument));
  fill(main, view.element);
  document.title = `${view.title} · reliable-email`;
  for (const [one, link] of links) {
    if (one === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  view.update?.();
}

function update(): void {
  const { snapshot, failure } = live;
  connection.textContent = "Live";
  connection.dataset["state"] = "live";
  show(
    failure ??
      (snapshot?.paused ? "Deliveries are paused: `reliable-email queue resume` ends that." : undefined),
  );
  const dead = snapshot?.states.dead ?? 0;
  fill(links.get("queue")!.querySelector(".count")!, dead > 0 && `${number(dead)} dead`);
  view?.update?.();
}

function lose(refusal: Refused): void {
  connection.textContent = refusal.status === 401 ? "Locked" : "Reconnecting";
  connection.dataset["state"] = "lost";
  if (refusal.status === 401)
    show("This tab has no valid token: open the address that was printed at the start.");
}

function show(text: string | undefined): void {
  if (notice.textContent !== (text ?? "")) notice.textContent = text ?? "";
  notice.hidden = text === undefined;
}

takeToken();
document.body.append(
  on(element("a", { class: "skip", href: "#main" }, "Skip to the content"), {
    click(event) {
      // The fragment names the view.
      event.preventDefault();
      main.focus();
    },
  }),
  element(
    "header",
    {},
    element("p", { class: "brand" }, "reliable-email"),
    element("nav", { "aria-label": "Views" }, ...links.values()),
    connection,
  ),
  notice,
  main,
);
addEventListener("hashchange", () => {
  navigate();
  scrollTo(0, 0);
});
navigate();
setInterval(tick, 1000);
void follow({
  onEvent(event) {
    live.take(event);
    update();
  },
  onLost: lose,
});
