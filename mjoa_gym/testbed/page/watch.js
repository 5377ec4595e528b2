"use strict";
// Asks the watcher for news and draws them. Everything that is kept here is bounded: seconds, rounds, lines.
const { kinds: KINDS, lanes: LANES } = JSON.parse(document.getElementById("data").textContent);
const ASK_MS = 250, DELAY_S = 0.8, KEPT_S = 75, WINDOWS_S = [5, 15, 60];
const MOST_ROUNDS = 200, SHOWN_ROUNDS = 40, TABLE_ROUNDS = 8, MOST_LINES = 30, GONE_S = 10;
const LANE_PX = 19, GAP_PX = 3, TOP_PX = 15, AXIS_PX = 18, LABEL_PX = 74, CELLS_PX = 9, LEAST_PX = 1, NUMBERED_PX = 17;
const PLAN_PX = 110, PLAN_LEFT_PX = 48, NARROW_PX = 700, ROUND_PX = 52, TICK_PX = 44;
const UE_COLOURS = ["#3f6aa5", "#8a63a8", "#2f8f83", "#b06a4a", "#7c7f2e", "#a8507a", "#5b7486", "#6f5f52"];
const SHARED_COLOUR = "#62626d", MISSED = "#d55e00", HELD = "#56b4e9", HELD_SHARED = "#62626d", PART = "#cfe6f5", EMPTY = "#e4e4ea";
const lane = Object.keys(LANES);
const $ = (id) => document.getElementById(id);

let connection = 0, next = 0, paused = null, span = WINDOWS_S[innerWidth > NARROW_PX ? 1 : 0], clock = -Infinity, last = null;
let ues = new Map(), rounds = new Map(), lines = [];

const seconds = () => performance.now() / 1e3;
const edge = () => paused ?? clock + seconds() - DELAY_S; // the server's time at the right end
const colour = (ue) => UE_COLOURS[(ue - 1) % UE_COLOURS.length];
const percent = (part, sign = "") => `${part > 0 ? sign : ""}${(100 * part).toFixed(part && Math.abs(part) < 0.0995 ? 1 : 0)} %`.replace("-", "−");
const digits = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3))));
const duration = (s) => (s >= 0.9995 ? `${digits(s)} s` : `${digits(1e3 * s)} ms`);
function amount(bytes) {
  const [scale, unit] = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]].find(([s]) => bytes >= s || s === 1);
  return `${digits(bytes / scale)} ${unit}`;
}
const median = (values) => { const v = [...values].sort((a, b) => a - b), h = v.length >> 1; return v.length % 2 ? v[h] : (v[h - 1] + v[h]) / 2; };
const several = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
const rate = (bps) => `${digits(bps / 1e6)} Mbit/s`;
const channels = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
const lighter = (hex) => `rgb(${channels(hex).map((v) => Math.round(v + (255 - v) * 0.27)).join(",")})`;

// Texts are set as texts, never as HTML, because names of models and layers come from elsewhere.
function element(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "rect", "line", "text", "title", "circle", "path", "clipPath"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// ---- what is known ----
function forget() { ues = new Map(); rounds = new Map(); lines = []; next = 0; clock = -Infinity; last = null; }
function line(at, text) { lines.unshift([at, text]); lines.length = Math.min(lines.length, MOST_LINES); }
function take(event) {
  if ("uses" in event) {
    const ue = ues.get(event.ue);
    for (const use of ue ? event.uses : []) ue.uses.set(use.slice(0, 3).join(), use);
  } else if ("joined" in event) {
    ues.set(event.joined, { ...event, uses: new Map(), placement: "", band: 0, compute: 0, phase: "is idle", gone: null });
    line(event.at, `UE ${event.joined} has registered: ${event.model}, weight ${digits(event.weight)}, ${duration(event.local_s)} all-local`);
  } else if ("left" in event) {
    if (ues.has(event.left)) Object.assign(ues.get(event.left), { gone: event.at, phase: "has left", band: 0, compute: 0 });
    line(event.at, `UE ${event.left} has left: ${event.why}`);
  } else if ("planned" in event) {
    rounds.set(event.round, { ...event, origins: new Map(), weights: event.ues.map((ue) => ues.get(ue)?.weight ?? 1) });
    if (rounds.size > MOST_ROUNDS) rounds.delete(rounds.keys().next().value);
    event.ues.forEach((ue, k) => { if (ues.has(ue)) ues.get(ue).placement = event.placements[k]; });
    if (event.problem) line(event.at, `Round ${event.round}: ${event.problem}; ${event.planned_by}`);
  } else if ("began" in event) {
    rounds.get(event.round)?.origins.set(event.began, event.at);
  } else if ("over" in event && rounds.has(event.over)) {
    const { at: ended, ...found } = event; // `at` stays the time at which the round began
    Object.assign(rounds.get(event.over), found, { ended });
  }
}
function takeNow(said) {
  for (const [number, band, compute, phase] of said.state.ues) {
    if (ues.has(number)) Object.assign(ues.get(number), { band, compute, phase });
  }
  clock = Math.max(clock, said.now - seconds());
  for (const [number, ue] of ues) {
    for (const [key, use] of ue.uses) if (use[3] < said.now - KEPT_S) ue.uses.delete(key);
    if (ue.gone !== null && said.now - ue.gone > GONE_S && paused === null) ues.delete(number);
  }
}

// ---- asking ----
async function ask() {
  let problem = "";
  try {
    const answer = await fetch(`news?connection=${connection}&since=${next}`, { cache: "no-store" });
    if (!answer.ok) throw new Error(`the watcher says ${answer.status}`);
    const said = await answer.json();
    if (said.connection !== connection) forget();
    [connection, next] = [said.connection, said.next];
    problem = said.problem ? `The server cannot be watched: ${said.problem}. The page shows the last known state.` : "";
    said.events.forEach(take);
    if (said.state) { takeNow(said); last = said; }
  } catch (error) {
    problem = `The watcher does not answer (${error.message}); is it still running?`;
  }
  $("problem").hidden = !problem;
  $("problem").textContent = problem;
  if (last) draw();
  setTimeout(ask, ASK_MS);
}

// ---- drawing ----
function draw() {
  drawHead();
  drawShared();
  if (paused === null) drawLanes();
  drawPlans();
  $("log").replaceChildren(...(lines.length ? lines : [[null, "Nothing yet."]]).map(([at, text]) =>
    element("li", {}, ...(at === null ? [] : [element("time", {}, `${ago(at)}`)]), text)));
  document.body.dataset.drawn = next;
}
const ago = (at) => { const s = Math.max(0, last.now - at); return s < 90 ? `${s.toFixed(0)} s ago` : s < 5400 ? `${(s / 60).toFixed(0)} min ago` : `${(s / 3600).toFixed(0)} h ago`; };
const here = () => [...ues.values()].filter((ue) => ue.gone === null);
function drawHead() {
  const { planner, rounds: n, uplink_bps: up, downlink_bps: down } = last.state;
  const cell = up === down ? `${rate(up)} each way` : `${rate(up)} up, ${rate(down)} down`;
  $("subtitle").textContent = `${planner} plans for ${several(here().length, "UE")}; a cell of ${cell}; round ${n}`;
}
function stack(id, parts, all) {
  $(id).replaceChildren(...parts.filter(([, part]) => part > 0).map(([name, part, face, text]) => {
    const piece = element("span", { style: `width:${100 * part / all}%;background:${face}`, title: text });
    if ((part / all) * $(id).clientWidth > 7 * name.length + 8) piece.textContent = name;
    return piece;
  }));
}
function drawShared() {
  const present = here();
  for (const [id, key, what] of [["band", "band", "of the band"], ["compute", "compute", "of the server"]]) {
    const sum = present.reduce((total, ue) => total + ue[key], 0);
    stack(id, present.map((ue) => [`UE ${ue.joined} ${percent(ue[key])}`, ue[key], colour(ue.joined), `UE ${ue.joined}: ${percent(ue[key])} ${what}`]), Math.max(1, sum));
    $(`${id}-text`).textContent = sum > 0 ? `${percent(Math.min(1, sum))} is given to ${several(present.filter((ue) => ue[key] > 0).length, "UE")}` : "no UE has a share";
  }
  const m = last.memory, own = Object.entries(m.ues);
  stack("memory", [...own.map(([ue, [bytes]]) => [`UE ${ue}`, bytes, colour(+ue), `UE ${ue}: ${amount(bytes)} of its own`]),
    ["shared", m.shared_bytes, SHARED_COLOUR, `shared by content: ${amount(m.shared_bytes)}`]], Math.max(m.capacity_bytes, m.used_bytes, 1));
  $("memory-text").textContent = `${amount(m.used_bytes)} of ${amount(m.capacity_bytes)} used`
    + (m.shared_bytes ? `, ${amount(m.shared_bytes)} shared` : "") + (m.dropped ? `; ${several(m.dropped, "layer")} dropped` : "");
}

function card(ue) {
  let found = $(`ue-${ue.joined}`);
  if (!found) {
    found = element("article", { class: "ue", id: `ue-${ue.joined}` }, element("header"), element("svg", { role: "img" }));
    found.dataset.ue = ue.joined;
    $("ues").append(found);
  }
  return found;
}
const AT_SERVER = { "#": ["there", HELD], s: ["there, shared", HELD_SHARED], ".": ["not there", EMPTY], "-": ["has no parameters", "none"] };
function cells(ue, y, width) {
  const row = last.memory.ues[ue.joined];
  if (!row) return [];
  const n = row[1].length, step = width / n;
  return [...row[1]].map((sign, layer) => {
    const [what, face] = AT_SERVER[sign] ?? [`${sign}0 % there`, PART];
    const size = ue.parameter_bytes[layer];
    return element("rect", { class: "cell", "data-sign": sign, x: LABEL_PX + layer * step, y, width: Math.max(0.6, step - (step > 4 ? 1 : 0)), height: CELLS_PX, fill: face },
      element("title", {}, `${ue.layers[layer]} (layer ${layer}): ${what}${size ? `, ${amount(size)}` : ""}`));
  });
}
const step = (scale) => [0.5, 1, 2, 5, 10].find((s) => s * scale >= TICK_PX) ?? 20; // seconds between lines
function drawLanes() {
  const shown = [...ues.values()].sort((a, b) => a.joined - b.joined);
  const known = new Set(shown.map((ue) => `ue-${ue.joined}`));
  for (const old of [...$("ues").children]) if (!known.has(old.id)) old.remove();
  if (!shown.length) $("ues").replaceChildren(element("p", { class: "wait" }, "No UE has registered yet."));
  for (const ue of shown) {
    const place = card(ue), at = [...ue.placement].filter((side) => side === "1").length;
    place.classList.toggle("gone", ue.gone !== null);
    place.firstChild.replaceChildren(
      element("strong", {}, element("b", { style: `background:${colour(ue.joined)}` }), `UE ${ue.joined}: ${ue.model}`),
      ...[`weight ${digits(ue.weight)}`, `${at} of ${ue.layers.length} layers at the edge`, `band ${percent(ue.band)}`, `server ${percent(ue.compute)}`, ue.phase].map((text) => element("span", {}, text)));
    lanesOf(ue, place.lastChild);
  }
  scroll();
}
function lanesOf(ue, svg) {
  const width = svg.clientWidth || 600, right = edge(), from = right - span, base = Math.floor(from), scale = (width - LABEL_PX) / span;
  const bottom = TOP_PX + lane.length * (LANE_PX + GAP_PX), height = bottom + CELLS_PX + 4 + AXIS_PX, x = (t) => LABEL_PX + (t - base) * scale;
  const y = (k) => TOP_PX + k * (LANE_PX + GAP_PX);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  svg.setAttribute("aria-label", `lanes of UE ${ue.joined} over the last ${span} seconds`);
  const moving = element("g", { class: "moving", "data-base": base, "data-scale": scale });
  for (let t = Math.ceil(from / step(scale)) * step(scale); t <= right + 2; t += step(scale)) {
    moving.append(element("line", { x1: x(t), x2: x(t), y1: TOP_PX, y2: bottom - GAP_PX, stroke: "#dcdce2" }));
  }
  for (const use of ue.uses.values()) if (use[3] >= from && use[2] <= right + 2) moving.append(...bar(ue, use, x, y, scale));
  let labelled = -Infinity; // so that labels do not overlap
  for (const round of rounds.values()) {
    if (round.at < from - 30 || round.at > right + 2 || !round.ues.includes(ue.joined)) continue;
    moving.append(...marks(ue, round, x, y(0), bottom - GAP_PX));
    if (x(round.at) < labelled) continue;
    moving.append(element("text", { x: x(round.at) + 3, y: y(0) - 5 }, `round ${round.round}`));
    labelled = x(round.at) + ROUND_PX + 6 * Math.max(0, String(round.round).length - 2);
  }
  svg.replaceChildren(
    element("clipPath", { id: `clip-${ue.joined}` }, element("rect", { x: LABEL_PX, y: 0, width: width - LABEL_PX, height: bottom })),
    ...lane.flatMap((name, k) => [
      element("rect", { class: "strip", x: LABEL_PX, y: y(k), width: width - LABEL_PX, height: LANE_PX }),
      element("text", { x: 0, y: y(k) + LANE_PX - 6 }, LANES[name])]),
    element("g", { "clip-path": `url(#clip-${ue.joined})` }, moving),
    element("text", { x: 0, y: bottom + CELLS_PX }, "at server"), ...cells(ue, bottom, width - LABEL_PX),
    ...axis(width, bottom + CELLS_PX + 4));
}
function axis(width, y) { // seconds before the right end
  const marks = [], scale = (width - LABEL_PX) / span;
  for (let s = 0; s <= span; s += step(scale)) {
    const x = width - s * scale;
    marks.push(element("text", { x, y: y + 12, "text-anchor": s ? "middle" : "end" }, s ? `−${s} s` : "now"));
  }
  return marks.slice(0, -1);
}
function bar(ue, [kind, layer, start, end], x, y, scale) {
  const style = KINDS[kind], width = Math.max(LEAST_PX, (end - start) * scale), top = y(lane.indexOf(style.resource));
  const name = layer < 0 ? "the network's input" : `${ue.layers[layer]} (layer ${layer})`;
  const made = [element("rect", { class: "use", "data-kind": kind, "data-layer": layer, x: x(start), y: top, width, height: LANE_PX, fill: layer % 2 ? lighter(style.face) : style.face },
    element("title", {}, `${style.label}: ${name}, ${duration(end - start)}`))];
  if (width >= NUMBERED_PX) made.push(element("text", { class: "inside", x: x(start) + width / 2, y: top + LANE_PX - 6, style: `fill:${style.ink}` }, layer < 0 ? "in" : layer));
  return made;
}
function marks(ue, round, x, top, bottom) {
  const k = round.ues.indexOf(ue.joined);
  const upright = (t, extra) => element("line", { x1: x(t), x2: x(t), y1: top - 4, y2: bottom, ...extra });
  const made = [upright(round.at, { stroke: "#9a9aa6", class: "begins" })];
  const origin = round.origins.get(ue.joined) ?? round.at;
  made.push(upright(origin + round.predicted_s[k], { stroke: MISSED, "stroke-width": 1.5, "stroke-dasharray": "3 2", class: "planned" }));
  const took = round.measured_s?.[k];
  if (took != null) made.push(upright(origin + took, { stroke: "#1b1b1f", "stroke-width": 1.5, class: "measured" }));
  return made;
}
function scroll() { // between two drawings
  const right = edge();
  for (const group of document.querySelectorAll("g.moving")) {
    group.setAttribute("transform", `translate(${-(right - span - group.dataset.base) * group.dataset.scale} 0)`);
  }
}
function animate() { scroll(); requestAnimationFrame(animate); }

function drawPlans() {
  const done = [...rounds.values()].filter((round) => "over" in round).slice(-SHOWN_ROUNDS);
  if (!done.length) { $("plans").replaceChildren(element("p", { class: "wait" }, "No round is over yet.")); $("rounds").hidden = true; return; }
  const charts = [...ues.values()].sort((a, b) => a.joined - b.joined).map((ue) => {
    const own = done.filter((round) => round.ues.includes(ue.joined)).map((round) => {
      const k = round.ues.indexOf(ue.joined);
      return { number: round.round, planned: round.predicted_s[k], measured: round.measured_s[k], failed: round.failed[k] };
    });
    return own.length ? planChart(ue, own) : null;
  });
  $("plans").replaceChildren(...charts.filter((chart) => chart));
  $("rounds").hidden = false;
  $("rounds").tBodies[0].replaceChildren(...done.slice(-TABLE_ROUNDS).reverse().map(row));
}
function row(round) {
  const whole = round.measured_s.every((s) => s != null);
  const sum = (values) => values.reduce((total, s, k) => total + round.weights[k] * s, 0);
  const planned = sum(round.predicted_s), measured = whole ? sum(round.measured_s) : null;
  return element("tr", {}, ...[round.round, round.ues.join(", "), planned.toFixed(3), whole ? measured.toFixed(3) : "–",
    whole ? percent(planned / measured - 1, "+") : "–", duration(round.planning_s), round.overruns.reduce((a, b) => a + b, 0), round.planned_by]
    .map((text) => element("td", {}, String(text))));
}
function planChart(ue, own) {
  const right = own.filter((one) => one.measured != null && !one.failed), errors = right.map((one) => Math.abs(one.planned / one.measured - 1));
  const svg = element("svg", { height: PLAN_PX, role: "img", "aria-label": `planned and measured latencies of UE ${ue.joined}` });
  const width = ($("plans").clientWidth || 300) < 560 ? $("plans").clientWidth - 4 : 288;
  svg.setAttribute("viewBox", `0 0 ${width} ${PLAN_PX}`);
  const most = Math.max(...own.map((one) => Math.max(one.planned, one.measured ?? 0))) * 1.08 || 1;
  const y = (s) => PLAN_PX - 16 - (s / most) * (PLAN_PX - 22);
  const pitch = (width - PLAN_LEFT_PX - 8) / Math.max(10, own.length), x = (k) => PLAN_LEFT_PX + 6 + (k + 0.5) * pitch;
  for (const s of [0, most / 2.16, most / 1.08]) {
    svg.append(element("line", { x1: PLAN_LEFT_PX, x2: width, y1: y(s), y2: y(s), stroke: "#dcdce2" }),
      element("text", { x: PLAN_LEFT_PX - 4, y: y(s) + 4, "text-anchor": "end" }, s ? duration(s) : "0"));
  }
  own.forEach((one, k) => {
    const told = `round ${one.number}: planned ${duration(one.planned)}, ${one.measured == null ? "not measured" : `measured ${duration(one.measured)}`}`;
    svg.append(element("rect", { x: x(k) - pitch * 0.34, y: y(one.planned), width: pitch * 0.68, height: y(0) - y(one.planned), fill: "#e4e4ea", class: "promise" }, element("title", {}, told)));
    if (one.measured != null) svg.append(element("circle", { cx: x(k), cy: y(one.measured), r: Math.min(4, pitch / 2.2), fill: one.failed ? MISSED : colour(ue.joined), class: "result" }, element("title", {}, told)));
  });
  svg.append(element("text", { x: PLAN_LEFT_PX + 6, y: PLAN_PX - 3 }, `round ${own[0].number}`), element("text", { x: x(own.length - 1) + pitch / 2, y: PLAN_PX - 3, "text-anchor": own.length > 6 ? "end" : "start" }, own.length > 6 ? own.at(-1).number : ""));
  const found = errors.length ? `error ${percent(median(errors))}` : "";
  return element("figure", {}, element("figcaption", {}, element("strong", {}, `UE ${ue.joined}`), ` ${ue.model}${found && ", "}${found}`), svg);
}

// ---- controls ----
function start() {
  for (const s of WINDOWS_S) {
    const input = element("input", { type: "radio", name: "window", value: s });
    input.checked = s === span;
    input.addEventListener("change", () => { span = s; if (last) drawLanes(); });
    document.querySelector("#window .pills").append(element("label", {}, input, element("span", {}, `${s} s`)));
  }
  $("window").addEventListener("submit", (event) => event.preventDefault());
  $("pause").addEventListener("click", () => {
    paused = paused === null ? edge() : null;
    $("pause").setAttribute("aria-pressed", paused !== null);
    $("pause").textContent = paused === null ? "Pause" : "Go on";
  });
  const named = new Map(KINDS.map((kind) => [kind.label, kind.face]));
  $("legend").append(...[...named].map(([label, face]) => element("li", {}, element("i", { style: `background:${face}` }), label)),
    element("li", { class: "mark" }, element("i", { style: `background:${MISSED}` }), "planned end"), element("li", { class: "mark" }, element("i", { style: "background:#1b1b1f" }), "measured end"),
    element("li", {}, element("i", { style: `background:${HELD}` }), "layer at the server"), element("li", {}, element("i", { style: `background:${HELD_SHARED}` }), "shared"));
  window.addEventListener("resize", () => { if (last) draw(); });
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) requestAnimationFrame(animate);
  ask();
}
start();
