"use strict";
// Draws the timelines in #data with Plotly. Sides are the timeline and, below it, one to compare.
const DATA = JSON.parse(document.getElementById("data").textContent);
const INK = "#1b1b1f", GREY = "#62626d", GRID = "#dcdce2", STRIP = "#f3f3f6", BAR = 0.84;
const LANE_PX = 46, MARGIN = { l: 92, r: 16, t: 60, b: 46, pad: 0 };
const NARROW_PX = 860, LEGEND_PX = 40; // below this width the legend has a row of its own, so high
const LEAST_PX = 1, NUMBERED_PX = 16; // least width of a bar, and of one with a number
const SHORT_PX = 5; // bars that are narrower have a wider target for the pointer
const LANE = Object.fromEntries(DATA.lanes.map((lane, k) => [lane.resource, k]));
const chart = document.getElementById("chart");
const sides = [{ on: true, choice: DATA.views[0].choice.slice() },
               { on: DATA.compare_with !== null, choice: (DATA.compare_with ?? DATA.views[0].choice).slice() }];

const escaped = (text) => String(text).replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]);
const digits = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3))));
const unitOf = (seconds) => (seconds >= 2 ? [1, "s"] : seconds >= 2e-3 ? [1e3, "ms"] : [1e6, "µs"]);
function duration(seconds) {
  if (seconds === null) return "never";
  const [scale, unit] = seconds === 0 ? [1, "s"] : unitOf(seconds);
  return `${digits(seconds * scale)} ${unit}`;
}
function moment(seconds) { // to the microsecond, so that neighbours differ
  return seconds === null ? "never" : `${(seconds * 1e3).toFixed(3)} ms`;
}
function amount(bytes) {
  const [scale, unit] = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]].find(([s]) => bytes >= s || s === 1);
  return `${digits(bytes / scale)} ${unit}`;
}

const viewOf = (choice) => DATA.views.find((view) => view.choice.every((option, k) => option === choice[k]));
const timelineOf = (side) => DATA.timelines[viewOf(side.choice).timeline];
const shown = () => sides.filter((side) => side.on);
function span() { // the last end, or where nothing ends, the last start
  const times = shown().map(timelineOf).flatMap((t) => [t.latency ?? 0, ...t.intervals.map((i) => i[3] ?? i[2])]);
  return times.reduce((a, b) => Math.max(a, b), 0) || 1;
}

function bytesOf([kind, layer, start, end]) {
  const what = DATA.kinds[kind].what, dnn = DATA.dnn;
  if (what === "execute") return null;
  if (what === "activation") return layer < 0 ? dnn.input_bytes : dnn.output_bytes[layer];
  if (DATA.uplink_bps === null) return null;
  return end === null ? null : ((end - start) * DATA.uplink_bps) / 8;
}
function hoverOf(interval) {
  const [kind, layer, start, end] = interval;
  const { what, label, resource } = DATA.kinds[kind], dnn = DATA.dnn, bytes = bytesOf(interval);
  const lines = layer < 0 ? ["<b>the network's input</b>"]
    : [`<b>${escaped(dnn.layer_names[layer])}</b>`, `layer ${layer}, ${escaped(dnn.kinds[layer])}`];
  lines.push(what === "activation" ? `${label} (${resource})` : label);
  if (bytes !== null) {
    const whole = what === "activation" ? bytes : dnn.parameter_bytes[layer];
    lines.push(bytes < whole * (1 - 1e-6) ? `${amount(bytes)} of its ${amount(whole)}` : amount(bytes));
  }
  lines.push(`${moment(start)} – ${moment(end)}`);
  if (end !== null) lines.push(`takes ${duration(end - start)}`);
  return lines.join("<br>");
}

const channels = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
const lighter = (hex) => `rgb(${channels(hex).map((v) => Math.round(v + (255 - v) * 0.27)).join(",")})`;

// One trace per kind and side. Neighbouring layers alternate in shade, as borders would hide short
// bars, which are drawn at least a pixel wide at any zoom.
function bars(side, row, end, scale, pxPerSecond) {
  const axis = row ? "y2" : "y", byLabel = new Map();
  for (const interval of timelineOf(side).intervals) {
    const style = DATA.kinds[interval[0]];
    if (!byLabel.has(style.label)) byLabel.set(style.label, []);
    byLabel.get(style.label).push(interval);
  }
  return [...byLabel].map(([label, some]) => {
    const style = DATA.kinds[some[0][0]];
    const width = (i) => (i[3] ?? end) - i[2];
    return {
      type: "bar", orientation: "h", name: label, legendgroup: label, yaxis: axis, width: BAR, showlegend: false,
      visible: !hidden.has(label),
      y: some.map((i) => LANE[DATA.kinds[i[0]].resource]), base: some.map((i) => i[2] * scale),
      x: some.map((i) => Math.max(width(i), LEAST_PX / pxPerSecond) * scale),
      marker: { color: some.map((i) => (i[1] % 2 ? lighter(style.face) : style.face)), line: { width: 0 } },
      text: some.map((i) => (width(i) * pxPerSecond < NUMBERED_PX ? "" : i[1] < 0 ? "in" : String(i[1]))),
      textposition: "inside", insidetextanchor: "middle", textangle: 0, constraintext: "none",
      insidetextfont: { color: style.ink, size: 11 },
      hovertext: some.map(hoverOf), hoverinfo: "text",
      hoverlabel: { bgcolor: "#ffffff", bordercolor: style.face, font: { color: INK, size: 13 }, align: "left" },
    };
  });
}

// Short bars can be pointed at from a few pixels away: invisible points in their middles.
function targets(side, row, end, scale, pxPerSecond, range) {
  const short = timelineOf(side).intervals.filter((i) => i[3] !== null && (i[3] - i[2]) * pxPerSecond < SHORT_PX
    && i[3] >= range[0] && i[2] <= range[1] && !hidden.has(DATA.kinds[i[0]].label));
  return {
    type: "scatter", mode: "markers", yaxis: row ? "y2" : "y", showlegend: false, name: "short",
    x: short.map((i) => ((i[2] + i[3]) / 2) * scale), y: short.map((i) => LANE[DATA.kinds[i[0]].resource]),
    marker: { opacity: 0, size: 6 }, hovertext: short.map(hoverOf), hoverinfo: "text",
    hoverlabel: { bgcolor: "#ffffff", font: { color: INK, size: 13 }, align: "left",
                  bordercolor: short.map((i) => DATA.kinds[i[0]].face) },
  };
}

// What the colours mean: every kind that any timeline has, so that the legend stays when switching.
function legend() {
  const used = new Set(DATA.timelines.flatMap((t) => t.intervals.map((i) => DATA.kinds[i[0]].label)));
  const styles = new Map(DATA.kinds.map((style) => [style.label, style]));
  return [...styles.values()].filter((style) => used.has(style.label)).map((style) => ({
    type: "bar", orientation: "h", x: [null], y: [0], name: style.label, legendgroup: style.label, marker: { color: style.face },
    visible: hidden.has(style.label) ? "legendonly" : true,
  }));
}

function layout(end, scale, unit, range) {
  const rows = shown(), n = DATA.lanes.length, gap = rows.length > 1 ? 0.11 : 0, shapes = [], annotations = [];
  const inner = (n * LANE_PX * rows.length) / (1 - gap), above = chart.clientWidth < NARROW_PX ? LEGEND_PX : 0;
  const margin = { ...MARGIN, t: MARGIN.t + above }, height = margin.t + margin.b + inner;
  const axes = {};
  rows.forEach((side, row) => {
    const low = rows.length === 1 ? 0 : row ? 0 : 0.5 + gap / 2, high = rows.length === 1 ? 1 : row ? 0.5 - gap / 2 : 1;
    const ref = row ? "y2" : "y", latency = timelineOf(side).latency;
    axes[row ? "yaxis2" : "yaxis"] = {
      domain: [low, high], range: [n - 0.5, -0.5], fixedrange: true, showgrid: false, zeroline: false, anchor: "x",
      tickvals: DATA.lanes.map((_, k) => k), ticktext: DATA.lanes.map((lane) => lane.label), tickfont: { color: GREY, size: 13 },
    };
    for (let k = 0; k < n; k += 1) {
      shapes.push({ type: "rect", layer: "below", xref: "x", yref: ref, x0: 0, x1: end * scale, y0: k - BAR / 2, y1: k + BAR / 2,
                    fillcolor: STRIP, line: { width: 0 } });
    }
    if (latency !== null) {
      shapes.push({ type: "line", xref: "x", yref: ref, x0: latency * scale, x1: latency * scale, y0: -0.5, y1: n - 0.5,
                    line: { color: INK, width: 1.3, dash: "dash" } });
    }
    annotations.push({ xref: "paper", yref: "paper", x: 0, y: high, yanchor: "bottom", xanchor: "left", showarrow: false,
                       text: `<b>${escaped(side.choice.join(", "))}</b>: ${duration(latency)}`, font: { color: INK, size: 14 } });
  });
  return {
    ...axes, shapes, annotations, height, margin, barmode: "overlay", hovermode: "closest", hoverdistance: 9,
    paper_bgcolor: "#ffffff", plot_bgcolor: "#ffffff", dragmode: "zoom", font: { family: "inherit", color: INK },
    legend: { orientation: "h", x: above ? 0 : 1, xanchor: above ? "left" : "right", y: 1 + above / 2 / inner, yanchor: "bottom", font: { size: 12 } },
    xaxis: { range: range.map((s) => s * scale), title: { text: `time (${unit})`, font: { color: GREY, size: 13 }, standoff: 6 },
             gridcolor: GRID, zeroline: false, tickfont: { color: GREY }, nticks: 12, anchor: rows.length > 1 ? "y2" : "y" },
  };
}

const hidden = new Set(); // labels of kinds that are not shown
let zoomed = null; // seconds, or null for everything
let drawing = false;
async function draw() {
  const end = span(), [scale, unit] = unitOf(end), range = zoomed ?? [0, end * 1.004];
  const pxPerSecond = (chart.clientWidth - MARGIN.l - MARGIN.r) / (range[1] - range[0]);
  const traces = shown().flatMap((side, row) => [...bars(side, row, end, scale, pxPerSecond),
                                                  targets(side, row, end, scale, pxPerSecond, range)]);
  drawing = true;
  await Plotly.react(chart, [...legend(), ...traces], layout(end, scale, unit, range),
    { responsive: true, displaylogo: false, doubleClick: false, scrollZoom: false,
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d"]] });
  drawing = false;
  chart.dataset.drawn = shown().map((side) => side.choice.join("|")).join(" ");
}
function onRelayout(change) {
  if (drawing || change["xaxis.range[0]"] === undefined) return;
  const [scale] = unitOf(span());
  zoomed = [change["xaxis.range[0]"] / scale, change["xaxis.range[1]"] / scale];
  draw();
}

function onLegend({ curveNumber, data }) {
  const { name } = data[curveNumber];
  if (!hidden.delete(name)) hidden.add(name);
  draw();
  return false; // Plotly itself would forget it at the next switch
}

function summarise(side, box) {
  const { latency, overlap, intervals } = timelineOf(side);
  const count = (resource) => new Set(intervals.filter((i) => DATA.kinds[i[0]].resource === resource
    && DATA.kinds[i[0]].what === "execute").map((i) => i[1])).size;
  const sent = (what) => intervals.filter((i) => DATA.kinds[i[0]].what === what).reduce((sum, i) => sum + (bytesOf(i) ?? 0), 0);
  const parts = [latency === null ? "never finishes" : duration(latency),
    `${count("edge")} of ${DATA.dnn.layer_names.length} layers at the edge`];
  if (sent("parameters") > 0) parts.push(`${amount(sent("parameters"))} of parameters uploaded, ${Math.round(100 * overlap)} % of it beside execution`);
  if (sent("activation") > 0) parts.push(`${amount(sent("activation"))} of activations`);
  if (sent("prefetch") > 0) parts.push(`${amount(sent("prefetch"))} prefetched`);
  const [above, below] = sides.map((s) => timelineOf(s).latency);
  if (side === sides[0] && sides[1].on && above !== null && below > 0 && above !== below) {
    const percent = (100 * Math.abs(1 - above / below)).toFixed(1);
    parts.push(`${percent} % ${above < below ? "less" : "more"} than below`);
  }
  box.textContent = "";
  element("strong", box, { textContent: parts[0] });
  box.append(["", ...parts.slice(1)].join(" · "));
}

// The nearest timeline there is, when the other switches' options do not go with a new one.
function choose(side, k, option) {
  const wanted = side.choice.map((old, j) => (j === k ? option : old));
  const agreement = (view) => view.choice.filter((o, j) => o === wanted[j]).length;
  const candidates = DATA.views.filter((view) => view.choice[k] === option);
  side.choice = candidates.reduce((a, b) => (agreement(b) > agreement(a) ? b : a)).choice.slice();
}
function element(tag, parent, properties = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  parent.append(made);
  return made;
}
function controls(side, index) {
  const box = document.getElementById(`side-${index}`);
  box.replaceChildren();
  element("span", box, { className: "role", textContent: index ? "Compare with" : "Timeline" });
  if (index) {
    const label = element("label", box);
    const check = element("input", label, { type: "checkbox", checked: side.on, id: "compare" });
    label.append("show below");
    check.addEventListener("change", () => { side.on = check.checked; zoomed = null; refresh(); });
    if (!side.on) return;
  }
  DATA.switches.forEach(({ name, options }, k) => {
    const changed = (option) => { choose(side, k, option); zoomed = null; refresh(); };
    if (options.length <= 4) pills(box, side, index, k, name, options, changed);
    else {
      const label = element("label", box, { textContent: name });
      const select = element("select", label, { id: `switch-${index}-${k}` });
      options.forEach((option) => element("option", select, { value: option, textContent: option, selected: option === side.choice[k] }));
      select.addEventListener("change", () => changed(select.value));
    }
  });
  summarise(side, element("span", box, { className: "summary", id: `summary-${index}` }));
}
function pills(box, side, index, k, name, options, changed) {
  const field = element("span", box, { className: "field", textContent: name });
  const group = element("span", field, { className: "pills", id: `switch-${index}-${k}` });
  group.setAttribute("role", "radiogroup");
  group.setAttribute("aria-label", name);
  options.forEach((option) => {
    const pill = element("label", group);
    const input = element("input", pill, { type: "radio", name: `switch-${index}-${k}`, value: option, checked: option === side.choice[k] });
    element("span", pill, { textContent: option });
    input.addEventListener("change", () => changed(option));
  });
}
function refresh() {
  const focused = document.activeElement, where = focused && [focused.name, focused.value, focused.id];
  sides.forEach(controls);
  const again = where && (document.querySelector(`input[name="${where[0]}"][value="${CSS.escape(where[1] ?? "")}"]`)
    ?? (where[2] && document.getElementById(where[2])));
  if (again) again.focus();
  return draw();
}

async function start() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
  chart.replaceChildren();
  await refresh();
  chart.on("plotly_relayout", onRelayout);
  chart.on("plotly_legendclick", onLegend);
  chart.on("plotly_legenddoubleclick", () => false);
  chart.on("plotly_doubleclick", () => { zoomed = null; draw(); });
  window.addEventListener("resize", () => draw());
}
document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
start().catch((error) => {
  chart.textContent = `The chart could not be drawn: ${error.message}. A browser of 2023 or later is needed.`;
  throw error;
});
