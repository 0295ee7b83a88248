// The frame and the style that all drawn pictures share, light and dark.

const style = `<style>
text { font: 14px ui-sans-serif, system-ui, sans-serif; fill: #1f2328; text-anchor: middle; dominant-baseline: central }
.small { font-size: 12px; fill: #59636e }
.left { text-anchor: start }
.box { fill: #f6f8fa; stroke: #59636e; stroke-width: 1.5 }
.good { fill: #dafbe1; stroke: #1a7f37 }
.bad { fill: #ffebe9; stroke: #cf222e }
.doubt { fill: #fff8c5; stroke: #9a6700 }
.mono { font: 13px ui-monospace, monospace; text-anchor: start; white-space: pre }
.bold { font-weight: bold } .dim { fill: #59636e } .red { fill: #cf222e } .yellow { fill: #9a6700 }
.resend-text { fill: #0969da } .postmark-text { fill: #bc4c00 }
.line { fill: none; stroke: #1f2328; stroke-width: 1.75; stroke-linejoin: round } .dashed { stroke: #59636e; stroke-dasharray: 5 4 } .line.resend { stroke: #0969da } .line.postmark { stroke: #bc4c00 }
.axis { stroke: #d1d9e0; stroke-width: 1 } .band { fill: #ffebe9; opacity: .6 } .band.weak { fill: #fff8c5 }
.edge { fill: none; stroke: #59636e; stroke-width: 1.5; marker-end: url(#arrow) }
marker path { fill: #59636e }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .small { fill: #9198a1 }
  .box { fill: #151b23; stroke: #9198a1 } .edge { stroke: #9198a1 } marker path { fill: #9198a1 }
  .line { stroke: #f0f6fc } .dashed { stroke: #9198a1 } .axis { stroke: #3d444d } .band { fill: #25171c; opacity: 1 } .band.weak { fill: #272115 }
  .line.resend { stroke: #4493f8 } .line.postmark { stroke: #f0883e } .resend-text { fill: #4493f8 } .postmark-text { fill: #f0883e }
  .dim { fill: #9198a1 } .red { fill: #f85149 } .yellow { fill: #d29922 }
  .good { fill: #12261e; stroke: #3fb950 } .bad { fill: #25171c; stroke: #f85149 } .doubt { fill: #272115; stroke: #d29922 }
}
</style>
<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>`;

export function svg(width: number, height: number, title: string, content: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escape(title)}">
<title>${escape(title)}</title>
${style}
${content.join("\n")}
</svg>
`;
}

export function escape(text: string): string {
  return Bun.escapeHTML(text);
}
