// Draws the pictures of the documentation: `npx bun docs/images/draw.ts`. Diagrams are described here. Terminal captures
// show the output of real processes: a provider fails, its emails leave through the other, and `queue stats` reports it.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cliInTerminal } from "../../tests/support/cli.ts";
import { escape, svg } from "./svg.ts";
import { post, settingsFor, startFakes, startServer, startWorker } from "../../tests/support/service.ts";

type Kind = "" | "good" | "bad" | "doubt";
interface Box {
  readonly at: readonly [x: number, y: number];
  readonly text: string;
  readonly kind?: Kind;
  readonly width?: number;
}
interface Edge {
  /** Corners of the line, from its beginning to its arrowhead. */
  readonly path: readonly (readonly [x: number, y: number])[];
  readonly text?: string;
  readonly textAt?: readonly [x: number, y: number];
}

const boxHeight = 40;

function diagram(width: number, height: number, title: string, boxes: Box[], edges: Edge[]): string {
  const shapes = boxes.map(({ at: [x, y], text, kind = "", width = 110 }) => {
    const corner = `x="${x - width / 2}" y="${y - boxHeight / 2}"`;
    return `<rect class="box ${kind}" ${corner} width="${width}" height="${boxHeight}" rx="6"/><text x="${x}" y="${y}">${escape(text)}</text>`;
  });
  const lines = edges.map(({ path, text, textAt: [x, y] = [0, 0] }) => {
    const line = `<path class="edge" d="M${path.map((point) => point.join(" ")).join("L")}"/>`;
    const label = text
      ?.split("\n")
      .map((part, i) => `<text class="small" x="${x}" y="${y + 15 * i}">${escape(part)}</text>`);
    return line + (label ?? []).join("");
  });
  return svg(width, height, title, [...lines, ...shapes]);
}

const states = diagram(
  880,
  430,
  "States of an email",
  [
    { at: [150, 40], text: "scheduled" },
    { at: [150, 140], text: "waiting" },
    { at: [450, 140], text: "sending" },
    { at: [800, 140], text: "sent", kind: "good" },
    { at: [450, 260], text: "in-doubt", kind: "doubt" },
    { at: [150, 360], text: "retrying" },
    { at: [800, 360], text: "dead", kind: "bad" },
  ],
  [
    {
      path: [
        [10, 40],
        [93, 40],
      ],
      text: "200, send_at",
      textAt: [48, 28],
    },
    {
      path: [
        [150, 61],
        [150, 118],
      ],
      text: "due",
      textAt: [168, 90],
    },
    {
      path: [
        [10, 132],
        [93, 132],
      ],
      text: "200",
      textAt: [50, 120],
    },
    {
      path: [
        [206, 132],
        [393, 132],
      ],
      text: "claimed in a batch",
      textAt: [300, 120],
    },
    {
      path: [
        [506, 132],
        [743, 132],
      ],
      text: "accepted",
      textAt: [625, 120],
    },
    {
      path: [
        [430, 161],
        [430, 238],
      ],
      text: "no answer, or\nlease expired",
      textAt: [385, 187],
    },
    {
      path: [
        [470, 239],
        [470, 162],
      ],
      text: "asked again",
      textAt: [510, 200],
    },
    {
      path: [
        [506, 252],
        [800, 252],
        [800, 162],
      ],
      text: "found accepted",
      textAt: [710, 240],
    },
    {
      path: [
        [394, 252],
        [170, 252],
        [170, 162],
      ],
      text: "found not sent,\nor doubt ended",
      textAt: [235, 220],
    },
    {
      path: [
        [394, 150],
        [315, 150],
        [315, 360],
        [207, 360],
      ],
      text: "failed",
      textAt: [338, 310],
    },
    {
      path: [
        [130, 339],
        [130, 162],
      ],
      text: "due",
      textAt: [112, 290],
    },
    {
      path: [
        [506, 150],
        [600, 150],
        [600, 360],
        [743, 360],
      ],
      text: "refused by all,\nor given up",
      textAt: [650, 302],
    },
    {
      path: [
        [800, 381],
        [800, 405],
        [40, 405],
        [40, 150],
        [93, 150],
      ],
      text: "retried by an operator",
      textAt: [450, 418],
    },
  ],
);

const architecture = diagram(
  860,
  150,
  "Architecture",
  [
    { at: [75, 75], text: "client" },
    { at: [260, 75], text: "server" },
    { at: [450, 75], text: "queue: SQLite or Redis", width: 180 },
    { at: [640, 75], text: "worker" },
    { at: [795, 40], text: "Resend" },
    { at: [795, 110], text: "Postmark" },
  ],
  [
    {
      path: [
        [131, 67],
        [203, 67],
      ],
      text: "POST /",
      textAt: [166, 54],
    },
    {
      path: [
        [204, 84],
        [132, 84],
      ],
      text: "200, id",
      textAt: [168, 99],
    },
    {
      path: [
        [316, 75],
        [358, 75],
      ],
      text: "fsync",
      textAt: [337, 62],
    },
    {
      path: [
        [584, 67],
        [542, 67],
      ],
      text: "claim",
      textAt: [563, 54],
    },
    {
      path: [
        [584, 84],
        [542, 84],
      ],
      text: "settle",
      textAt: [563, 99],
    },
    {
      path: [
        [696, 66],
        [738, 44],
      ],
    },
    {
      path: [
        [696, 84],
        [738, 106],
      ],
    },
  ],
);

const fleet = diagram(
  980,
  220,
  "A fleet without a single point of failure",
  [
    { at: [60, 110], text: "clients", width: 90 },
    { at: [210, 60], text: "HAProxy", width: 100 },
    { at: [210, 160], text: "HAProxy", width: 100 },
    { at: [375, 60], text: "servers, host a", width: 130 },
    { at: [375, 160], text: "servers, host b", width: 130 },
    { at: [560, 110], text: "Redis: primary", width: 120 },
    { at: [560, 30], text: "replica", width: 120 },
    { at: [560, 190], text: "replica", width: 120 },
    { at: [740, 60], text: "worker, host c", width: 120 },
    { at: [740, 160], text: "worker, host d", width: 120 },
    { at: [910, 60], text: "Resend", width: 100 },
    { at: [910, 160], text: "Postmark", width: 100 },
  ],
  [
    ...fan([106, 110], [159, 60], [159, 160]),
    ...fan([261, 60], [309, 60], [309, 150]),
    ...fan([261, 160], [309, 70], [309, 160]),
    ...fan([441, 60], [499, 105]),
    ...fan([441, 160], [499, 115]),
    ...fan([560, 89], [560, 51]),
    ...fan([560, 131], [560, 169]),
    ...fan([679, 60], [621, 105]),
    ...fan([679, 160], [621, 115]),
    ...fan([801, 60], [859, 60], [859, 150]),
    ...fan([801, 160], [859, 70], [859, 160]),
  ],
);

/** Arrows from one point to several. */
function fan(from: readonly [number, number], ...to: readonly (readonly [number, number])[]): Edge[] {
  return to.map((end) => ({ path: [from, end] }));
}

const lineHeight = 18;
const columnWidth = 7.8;
const padding = 14;
const sgr: Readonly<Record<string, string>> = { 1: "bold", 2: "dim", 31: "red", 33: "yellow" };

/** A picture of what a terminal shows, with its colors. */
function terminal(title: string, command: string, output: string): string {
  const lines = [`\x1b[2m$ ${command}\x1b[0m`, ...output.trimEnd().split("\n")];
  const texts = lines.map((line, i) => {
    let classes: string[] = [];
    // Escapes and texts alternate.
    // oxlint-disable-next-line no-control-regex
    const spans = line.split(/(\x1b\[[\d;]*m)/).map((part) => {
      // oxlint-disable-next-line no-control-regex
      const [, codes] = /^\x1b\[([\d;]*)m$/.exec(part) ?? [];
      if (codes === undefined) return part && `<tspan class="${classes.join(" ")}">${escape(part)}</tspan>`;
      for (const code of codes.split(";")) {
        const name = sgr[code];
        classes = name === undefined ? [] : [...classes, name];
      }
      return "";
    });
    const y = padding + lineHeight * (i + 0.5);
    return `<text class="mono" x="${padding}" y="${y}" xml:space="preserve">${spans.join("")}</text>`;
  });
  const columns = Math.max(...lines.map((line) => Bun.stringWidth(line)));
  const width = Math.ceil(columns * columnWidth + 2 * padding);
  const height = lines.length * lineHeight + 2 * padding;
  const frame = `<rect class="box" x="1" y="1" width="${width - 2}" height="${height - 2}" rx="6"/>`;
  return svg(width, height, title, [frame, ...texts]);
}

const email = { subject: "Hi", body: "Hello", to: "jane@example.org" };

/** Runs the service on a queue of its own while a provider fails. */
async function capture(): Promise<{ stats: string; failover: string }> {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-pictures-"));
  const fakes = await startFakes();
  const env = settingsFor({ DATA_DIR: folder }, fakes, { ADMIN_PORT: "", PROVIDERS: "resend:3,postmark:1" });
  const server = await startServer(env);
  const worker = await startWorker(env);
  try {
    const submit = async (count: number) => {
      for (let i = 0; i < count; i++) await post(server.url, email);
    };
    await submit(40);
    const json = { name: "application_error", message: "The service is unavailable" };
    await fakes.fault("resend", { fault: { stage: "read", effect: { status: 503, json } } });
    const submitUntil = async (event: string) => {
      while (!worker.lines.some((line) => line["event"] === event)) await submit(10);
    };
    await submitUntil("breaker-opened");
    const stats = cliInTerminal(env, ["queue", "stats"]);
    await stats.exited;
    await fakes.clearFaults();
    await submitUntil("breaker-closed");
    const events = ["worker-started", "breaker-opened", "breaker-closed"];
    const failover = worker.lines.filter(({ event }) => events.includes(String(event)));
    return {
      stats: stats.shown().replaceAll(folder, "/var/lib/reliable-email"),
      failover: failover.map((line) => JSON.stringify(line)).join("\n"),
    };
  } finally {
    await Promise.all([server.kill(), worker.kill(), fakes.stop()]);
    rmSync(folder, { recursive: true, force: true });
  }
}

const { stats, failover } = await capture();
const pictures = {
  states,
  architecture,
  fleet,
  stats: terminal("Output of queue stats", "reliable-email queue stats", stats),
  failover: terminal("A failover in the log", "journalctl -o cat -u reliable-email-worker", failover),
};
for (const [name, picture] of Object.entries(pictures)) {
  await Bun.write(join(import.meta.dir, `${name}.svg`), picture);
}
