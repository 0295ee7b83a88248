// The page: takes the token, follows the events, and shows the view that the address's fragment names.

import { follow, type Refused, takeToken } from "./client.ts";
import { ComposeView } from "./compose_view.ts";
import { DeliveredView } from "./delivered_view.ts";
import { element, fill, on } from "./dom.ts";
import { EmailView } from "./email_view.ts";
import { number, tick, wordOf } from "./format.ts";
import { Live } from "./live.ts";
import { ProvidersView } from "./providers_view.ts";
import { QueueView } from "./queue_view.ts";
import type { View } from "./view.ts";

const live = new Live();

/** Views by the first word of the fragment; the rest is their argument. */
const views = new Map<string, (argument: string) => View>([
  ["queue", (id) => (id === "" ? new QueueView(live) : new EmailView(id))],
  ["compose", () => new ComposeView(live)],
  ["delivered", (file) => new DeliveredView(live, file)],
  ["providers", () => new ProvidersView(live)],
]);

const links = new Map(
  [...views.keys()].map((name) => [
    name,
    element("a", { href: `#/${name}` }, wordOf(name), element("span", { class: "count" })),
  ]),
);
const connection = element("p", { class: "connection", role: "status" }, "Connecting");
const notice = element("p", { class: "notice", role: "alert", hidden: true });
const main = element("main", { id: "main", tabindex: -1 });

let view: View | undefined;
let viewName = "";

function navigate(): void {
  // The user has opened the address of a later start in this tab.
  if (takeToken()) return location.reload();
  const [, word = "", argument = ""] = /^#\/(\w+)\/?(.*)$/.exec(location.hash) ?? [];
  const name = views.has(word) ? word : "queue";
  if (name === viewName && view?.choose !== undefined) return view.choose(argument);
  // The link that had the focus may be gone. At the start, leave the focus to the browser.
  if (view !== undefined) main.focus();
  view?.leave?.();
  view = views.get(name)!(argument);
  viewName = name;
  fill(main, view.element);
  scrollTo(0, 0);
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
  if (refusal.status !== 401) return;
  live.isLocked = true;
  show("This tab has no valid token: open the address that was printed last.");
  view?.update?.();
}

function show(text: string | undefined): void {
  if (notice.textContent !== (text ?? "")) notice.textContent = text ?? "";
  notice.hidden = text === undefined;
}

takeToken();
document.body.append(
  on(element("a", { class: "skip", href: "#main" }, "Skip to the content"), {
    click(event) {
      // Following the link would change the fragment, which names the view.
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
addEventListener("hashchange", navigate);
navigate();
setInterval(tick, 1000);
void follow({
  onEvent(event) {
    live.take(event);
    update();
  },
  onLost: lose,
});
