// The chart of the last minutes: emails that are not sent yet, that each provider sent, and that are dead. A label and a table
// contain the same numbers as text.

import uPlot from "uplot";
import { element, fill, Keyed } from "./dom.ts";
import { number } from "./format.ts";
import type { Sample } from "./live.ts";

const heightPixels = 220;
/** Shortest time axis, s. */
const shortestSeconds = 30;
/** Time between two rows of the table, s. */
const rowSeconds = 15;
const font = "12px system-ui";

interface Series {
  readonly label: string;
  /** The name of its color in style.css. */
  readonly color: string;
  readonly dash: readonly number[];
  readonly valueOf: (sample: Sample) => number;
  /** Not drawn if it is always zero. */
  readonly skipsZero?: true;
}

export class Chart {
  readonly element: HTMLElement;
  readonly #canvas = element("div", { class: "canvas", role: "img" });
  readonly #legend = element("ul", { class: "legend" });
  readonly #head = element("tr");
  readonly #body = element("tbody");
  readonly #keys = new Keyed<Key>(this.#legend, keyOf);
  readonly #observer = new ResizeObserver(() => this.#resize());
  readonly #scheme = matchMedia("(prefers-color-scheme: dark)");
  #plot: uPlot | undefined;
  #labels = "";

  constructor() {
    this.element = element(
      "figure",
      { class: "chart" },
      element(
        "figcaption",
        {},
        "Emails in the last three minutes. “Sent” counts since this page was opened.",
      ),
      this.#legend,
      this.#canvas,
      element(
        "details",
        {},
        element("summary", {}, "As a table"),
        element(
          "table",
          {},
          element("caption", { class: "hidden" }, "Emails over time"),
          element("thead", {}, this.#head),
          this.#body,
        ),
      ),
    );
    this.#observer.observe(this.#canvas);
    // The colors depend on the scheme.
    this.#scheme.addEventListener("change", this.#forget);
  }

  show(samples: readonly Sample[]): void {
    const last = samples.at(-1);
    if (last === undefined) return;
    const series = seriesOf(last);
    const drawn = series.filter(({ skipsZero, valueOf }) => !skipsZero || samples.some(valueOf));
    const labels = drawn.map(({ label }) => label).join();
    if (labels !== this.#labels) this.#forget();
    this.#labels = labels;
    const data: uPlot.AlignedData = [
      samples.map(({ at }) => at),
      ...drawn.map(({ valueOf }) => samples.map(valueOf)),
    ];
    this.#plot ??= new uPlot(this.#options(drawn), data, this.#canvas);
    this.#plot.setData(data);
    const values = series.map(({ label, color, dash, valueOf }) => ({
      label,
      color,
      isDashed: dash.length > 0,
      value: valueOf(last),
    }));
    this.#keys.show(values, ({ label }) => label);
    this.#canvas.setAttribute(
      "aria-label",
      `Chart. Now: ${values.map(({ label, value }) => `${label} ${number(value)}`).join(", ")}`,
    );
    this.#tabulate(samples, series);
  }

  destroy(): void {
    this.#observer.disconnect();
    this.#scheme.removeEventListener("change", this.#forget);
    this.#forget();
  }

  readonly #forget = (): void => {
    this.#plot?.destroy();
    this.#plot = undefined;
  };

  #resize(): void {
    this.#plot?.setSize({ width: this.#canvas.clientWidth, height: heightPixels });
  }

  #options(series: readonly Series[]): uPlot.Options {
    const color = (name: string) =>
      getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    const axis = {
      stroke: color("muted"),
      font,
      grid: { stroke: color("line"), width: 1 },
      ticks: { show: false },
    };
    return {
      width: this.#canvas.clientWidth,
      height: heightPixels,
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { range: (_, start, end) => [Math.min(start, end - shortestSeconds), end] },
        y: { range: (_, __, max) => [0, Math.max(5, max * 1.1)] },
      },
      axes: [
        { ...axis, values: (_, ticks) => ticks.map(clockOf), space: 70 },
        { ...axis, size: 44, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000] },
      ],
      series: [
        {},
        ...series.map((one) => ({
          label: one.label,
          stroke: color(one.color),
          width: 2,
          dash: [...one.dash],
          points: { show: false },
          paths: uPlot.paths.stepped!({ align: 1 }),
        })),
      ],
    };
  }

  /** Fills the table, from the newest sample. */
  #tabulate(samples: readonly Sample[], series: readonly Series[]): void {
    fill(
      this.#head,
      element("th", { scope: "col" }, "Time"),
      ...series.map(({ label }) => element("th", { scope: "col", class: "figure" }, label)),
    );
    const slotOf = ({ at }: Sample) => Math.floor(at / rowSeconds);
    const rows = samples.filter(
      (sample, i) => i === samples.length - 1 || slotOf(sample) !== slotOf(samples[i + 1]!),
    );
    fill(
      this.#body,
      ...rows
        .toReversed()
        .map((sample) =>
          element(
            "tr",
            {},
            element("th", { scope: "row" }, clockOf(sample.at)),
            ...series.map(({ valueOf }) => element("td", { class: "figure" }, number(valueOf(sample)))),
          ),
        ),
    );
  }
}

const dashes: readonly (readonly number[])[] = [[], [8, 3], [2, 3], [10, 3, 2, 3]];

function seriesOf({ sent }: Sample): Series[] {
  const providers = Object.keys(sent).map((name, i) => ({
    label: `sent by ${name}`,
    color: `series-${(i % 4) + 1}`,
    dash: dashes[i % dashes.length]!,
    valueOf: (sample: Sample) => sample.sent[name] ?? 0,
  }));
  return [
    { label: "not sent yet", color: "muted", dash: [4, 4], valueOf: ({ waiting }) => waiting },
    ...providers,
    { label: "dead", color: "red", dash: [], valueOf: ({ dead }) => dead, skipsZero: true },
  ];
}

/** An entry of the legend. */
interface Key extends Pick<Series, "label" | "color"> {
  readonly isDashed: boolean;
  readonly value: number;
}

function keyOf({ label, color, isDashed, value }: Key): Element {
  return element(
    "li",
    {},
    element("span", { class: "swatch", "data-color": color, "data-dashed": isDashed, "aria-hidden": "true" }),
    label,
    " ",
    element("strong", {}, number(value)),
  );
}

function clockOf(seconds: number): string {
  return new Date(seconds * 1000).toTimeString().slice(0, 8);
}
