// The chart of a simulated fleet: what it sent, what waited, and what it asked of the providers.

import type { FleetResult, Minute } from "../../bench/fleet/fleet.ts";
import { requestsOf } from "../../bench/fleet/report.ts";
import type { FleetScenario } from "../../bench/fleet/scenario.ts";
import { escape, svg } from "./svg.ts";

interface Series {
  readonly label: string;
  readonly kind: "" | "resend" | "postmark" | "dashed";
  readonly value: (minute: Minute) => number;
  /** Where the label is: the part of the width, and the value. */
  readonly labelAt?: readonly [part: number, value: number];
}

interface Panel {
  readonly title: string;
  readonly max: number;
  readonly series: readonly Series[];
}

const width = 880;
const left = 60;
const right = width - 20;
const panelHeight = 130;
const panelGap = 44;
const top = 60;
/** Minutes of which a point of a line is the mean. */
const pointMinutes = 5;

const accepted = (name: string) => (minute: Minute) => minute.traffic[name]!.accepted / 60;
const submitted = ({ submitted: emails }: Minute) => emails / 60;

export function drawOutage(scenario: FleetScenario, { minutes }: FleetResult): string {
  const most = (value: (minute: Minute) => number) => Math.max(...minutes.map(value));
  const panels: readonly Panel[] = [
    {
      title: "emails accepted a second",
      max: roundUp(most(accepted("resend"))),
      series: [
        { label: "submitted", kind: "dashed", value: submitted, labelAt: [0.4, 340] },
        { label: "Resend", kind: "resend", value: accepted("resend"), labelAt: [0.92, 780] },
        { label: "Postmark", kind: "postmark", value: accepted("postmark"), labelAt: [0.92, 400] },
      ],
    },
    {
      title: "emails waiting, millions",
      max: roundUp(most(({ backlog }) => backlog) / 1e6),
      series: [{ label: "", kind: "", value: ({ backlog }) => backlog / 1e6 }],
    },
    {
      title: `requests a minute, of ${scenario.workers} workers to both providers`,
      max: roundUp(most((minute) => requestsOf([minute]))),
      series: [{ label: "", kind: "", value: (minute) => requestsOf([minute]) }],
    },
  ];
  return chart(scenario.phases, minutes, panels);
}

/** The next number that is easy to read. */
function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((digit) => digit * power).find((round) => round >= value)!;
}

function chart(
  phases: FleetScenario["phases"],
  minutes: readonly Minute[],
  panels: readonly Panel[],
): string {
  const x = (minute: number) => left + ((right - left) * minute) / minutes.length;
  const bottom = top + panels.length * (panelHeight + panelGap) - panelGap;
  const kinds = ["", "", "weak", ""];
  const names = ["", "both providers down", "Resend at a tenth", ""];
  let startsAt = 0;
  const bands = phases.map(({ minutes: length }, i) => {
    const [from, until] = [x(startsAt), x(Math.min(minutes.length, startsAt + length))];
    startsAt += length;
    if (names[i] === "") return "";
    const rect = `<rect class="band ${kinds[i]}" x="${at(from)}" y="${top - 22}" width="${at(until - from)}" height="${bottom - top + 22}"/>`;
    return `${rect}<text class="small" x="${at((from + until) / 2)}" y="${top - 34}">${names[i]}</text>`;
  });
  const hours = Array.from({ length: Math.floor(minutes.length / 60 / 2) + 1 }, (_, i) => 2 * i);
  const ticks = hours.map((hour) => {
    return `<text class="small" x="${at(x(60 * hour))}" y="${bottom + 16}">${hour} h</text>`;
  });
  const drawn = panels.map((panel, i) => draw(panel, minutes, x, top + i * (panelHeight + panelGap)));
  return svg(width, bottom + 30, "A simulated fleet in an outage", [...bands, ...drawn, ...ticks]);
}

function draw(
  { title, max, series }: Panel,
  minutes: readonly Minute[],
  x: (minute: number) => number,
  from: number,
): string {
  const y = (value: number) => from + panelHeight * (1 - value / max);
  const axes = [0, max / 2, max].map((value) => {
    const line = `<path class="axis" d="M${left} ${at(y(value))}H${right}"/>`;
    return `${line}<text class="small" x="${left - 24}" y="${at(y(value))}">${value.toLocaleString("en")}</text>`;
  });
  const lines = series.map(({ label, kind, value, labelAt: [part, height] = [0, 0] }) => {
    const points: string[] = [];
    for (let start = 0; start + pointMinutes <= minutes.length; start += pointMinutes) {
      const some = minutes.slice(start, start + pointMinutes).map(value);
      const mean = some.reduce((sum, one) => sum + one, 0) / pointMinutes;
      points.push(`${at(x(start + pointMinutes / 2))} ${at(y(Math.min(max, mean)))}`);
    }
    const text = `<text class="small ${kind}-text" x="${at(left + part * (right - left))}" y="${at(y(height))}">${escape(label)}</text>`;
    return `<path class="line ${kind}" d="M${points.join("L")}"/>${text}`;
  });
  const heading = `<text class="left small bold" x="${left}" y="${from - 11}">${escape(title)}</text>`;
  return [...axes, ...lines, heading].join("\n");
}

function at(position: number): string {
  return String(Math.round(position * 10) / 10);
}
