// Draws the charts, and the values at the moment that the reader points at.
"use strict";

const HISTORY_S = 300;
// The minimum width of a chart's labels, so that charts in one column have the same time axis.
const LABELS_WIDTH = 72;
// Samples are one second apart. If two are further apart than this, samples are missing.
const GAP_S = 2.5;
const CHART_HEIGHT = 150;
const SVG = "http://www.w3.org/2000/svg";
const TICK_MS = 60_000;
// A time on the axis needs this much room, and so does "now" at its end.
const TIME_WIDTH = 44;
// By key: how far the reader's moment moves.
const STEPS_S = {
  ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30, Home: -HISTORY_S, End: HISTORY_S,
};

// The moment that the reader points at, in seconds: 0 is the last sample. All charts show it.
let pointedAt = null;
// What each chart shows, and where.
const drawings = new WeakMap();

function makeSVG(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// Returns the values of a chart's grid lines: at most five, from 0 to at least the highest
// value, at a round distance.
function scale(highest, unit, whole) {
  const base = unit.startsWith("B") ? 1024 : 10;
  const steps = base === 10 ? [1, 2, 5, 10] : [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
  const wanted = highest / 4;
  let step = 1;
  if (wanted > 0) {
    let power = base ** Math.floor(Math.log(wanted) / Math.log(base));
    step = power * steps.find((each) => power * each >= wanted * 0.999);
  }
  if (whole) step = Math.max(step, 1);
  const lines = [0];
  while (lines.length < 2 || lines.at(-1) < highest) lines.push(lines.length * step);
  return lines;
}

// Returns the labels of a chart's grid lines. They have enough decimals to differ.
function labelled(lines, unit) {
  if (unit.startsWith("B")) return lines.map((value) => text(value, unit));
  const digits = Math.max(0, -Math.floor(Math.log10(lines[1]) + 1e-9));
  const decimals = {minimumFractionDigits: digits, maximumFractionDigits: digits};
  return lines.map((value) => joined(value.toLocaleString("en", decimals), unit));
}

function makeChart() {
  const level = make("p");
  level.className = "level";
  const figure = make("figure", make("figcaption", make("h3"), level));
  // With this role, a screen reader leaves the arrow keys to the chart, and reads the values.
  const svg = makeSVG("svg", {
    role: "slider", tabindex: 0, "aria-valuemin": -HISTORY_S, "aria-valuemax": 0,
  });
  svg.addEventListener("pointerdown", pointed);
  svg.addEventListener("pointermove", pointed);
  svg.addEventListener("pointerleave", (event) => {
    // A finger leaves when it is lifted.
    if (event.pointerType === "mouse") pointAt(null);
  });
  svg.addEventListener("keydown", pointedByKey);
  svg.addEventListener("blur", () => pointAt(null));
  figure.append(svg);
  return figure;
}

// Splits the points at gaps. Nothing is drawn where nothing was measured.
function pieces(points) {
  const found = [];
  let before = -Infinity;
  for (const [t, value] of points) {
    if (value === null) {
      before = -Infinity;
      continue;
    }
    if (t - before > GAP_S) found.push([]);
    found.at(-1).push([t, value]);
    before = t;
  }
  return found;
}

// Returns the full minutes on the time axis: when, and what to call them.
function ticks() {
  const found = [];
  const end = drawnAt.getTime();
  for (let at = Math.floor(end / TICK_MS) * TICK_MS; at > end - 1000 * HISTORY_S; at -= TICK_MS)
    found.unshift([(at - end) / 1000, clockTime(new Date(at)).slice(0, 5)]);
  return found;
}

function timeLabel(x, anchor, words) {
  const label = makeSVG("text", {class: "time", x, y: CHART_HEIGHT - 4, "text-anchor": anchor});
  label.textContent = words;
  return label;
}

function drawChart(figure, {title, unit, points}) {
  const svg = figure.querySelector("svg");
  const values = points.map(([, value]) => value).filter((value) => value !== null);
  const highest = values.reduce((a, b) => Math.max(a, b), 0);
  const lowest = values.reduce((a, b) => Math.min(a, b), Infinity);
  const now = text(points.at(-1)?.[1], unit);
  say(figure.querySelector("h3"), title);
  svg.setAttribute("aria-label", values.length
    ? `${title}: ${still() ? "then" : "now"} ${now === NOTHING ? "no value" : now};`
      + ` in the last 5 minutes from ${text(lowest, unit)} to ${text(highest, unit)}`
    : `${title}: no value in the last 5 minutes`);

  const lines = scale(highest, unit, values.every(Number.isInteger));
  const labels = labelled(lines, unit);
  const width = figure.clientWidth;
  const left = Math.max(LABELS_WIDTH, 8 + 7 * Math.max(...labels.map((label) => label.length)));
  const [top, bottom, right] = [8, CHART_HEIGHT - 20, width - 1];
  const x = (t) => left + (1 + Math.max(t, -HISTORY_S) / HISTORY_S) * (right - left);
  const y = (value) => bottom - value / lines.at(-1) * (bottom - top);
  const children = [];
  lines.forEach((value, index) => {
    const at = Math.round(y(value)) + 0.5;
    children.push(makeSVG("line", {class: "grid", x1: left, x2: right, y1: at, y2: at}));
    const label = makeSVG("text", {class: "value", x: left - 6, y: at + 4, "text-anchor": "end"});
    label.textContent = labels[index];
    children.push(label);
  });
  const end = still() ? clockTime(drawnAt) : "now";
  const room = TIME_WIDTH * (still() ? 1.6 : 1);
  for (const [t, words] of ticks()) {
    const at = Math.round(x(t)) + 0.5;
    children.push(makeSVG("line", {class: "grid", x1: at, x2: at, y1: top, y2: bottom}));
    if (at > right - room) continue;
    children.push(timeLabel(at, "middle", words));
  }
  children.push(timeLabel(right, "end", end));
  const [areas, strokes, dots] = [[], [], []];
  for (const piece of pieces(points)) {
    const places = piece.map(([t, value]) => [x(t).toFixed(1), y(value).toFixed(1)]);
    if (places.length === 1) {
      dots.push(makeSVG("circle", {class: "dot", cx: places[0][0], cy: places[0][1], r: 1.5}));
      continue;
    }
    const path = places.join("L");
    areas.push(`M${path}L${places.at(-1)[0]},${bottom}L${places[0][0]},${bottom}Z`);
    strokes.push(`M${path}`);
  }
  if (strokes.length) {
    children.push(makeSVG("path", {class: "area", d: areas.join("")}));
    children.push(makeSVG("path", {class: "line", d: strokes.join("")}));
  }
  children.push(...dots);
  svg.setAttribute("viewBox", `0 0 ${width} ${CHART_HEIGHT}`);
  const pointer = makeSVG("g", {class: "pointer"});
  svg.replaceChildren(...children, pointer);
  drawings.set(figure, {unit, points, now, left, right, bottom, top, x, y});
  drawPointer(figure);
}

// The moment that the reader points at.

function pointAt(t) {
  pointedAt = t === null ? null : Math.min(0, Math.max(-HISTORY_S, t));
  for (const figure of byId("charts").children) drawPointer(figure);
}

function pointed({currentTarget: svg, clientX}) {
  const {left, right} = drawings.get(svg.parentElement);
  const place = (clientX - svg.getBoundingClientRect().left - left) / (right - left);
  pointAt((place - 1) * HISTORY_S);
}

function pointedByKey(event) {
  if (event.key === "Escape") {
    pointAt(null);
  } else if (event.key in STEPS_S && !event.altKey && !event.ctrlKey && !event.metaKey) {
    const step = STEPS_S[event.key];
    // The first key shows an end of the chart.
    pointAt(pointedAt === null && event.key !== "Home" ? 0 : (pointedAt ?? 0) + step);
    // Only when a key is pressed: a screen reader says each change.
    const level = event.currentTarget.parentElement.querySelector(".level").textContent;
    event.currentTarget.setAttribute("aria-valuetext", level);
  } else {
    return;
  }
  event.preventDefault();
}

// Draws the reader's moment in a chart, or removes it.
function drawPointer(figure) {
  const {unit, points, now, top, bottom, x, y} = drawings.get(figure);
  const svg = figure.querySelector("svg");
  const level = figure.querySelector(".level");
  svg.setAttribute("aria-valuenow", Math.round(pointedAt ?? 0));
  level.classList.toggle("pointed", pointedAt !== null);
  if (pointedAt === null) {
    svg.querySelector(".pointer").replaceChildren();
    svg.removeAttribute("aria-valuetext");
    say(level, now);
    return;
  }
  const far = ([t]) => Math.abs(t - pointedAt);
  const nearest = points.reduce((a, b) => (far(b) <= far(a) ? b : a), [Infinity, null]);
  const [t, value] = far(nearest) <= GAP_S / 2 ? nearest : [pointedAt, null];
  const children = [makeSVG("line", {x1: x(t), x2: x(t), y1: top, y2: bottom})];
  if (value !== null) children.push(makeSVG("circle", {cx: x(t), cy: y(value), r: 3.5}));
  svg.querySelector(".pointer").replaceChildren(...children);
  say(level, `${text(value, unit)} at ${clockTime(new Date(drawnAt.getTime() + 1000 * t))}`);
}

addEventListener("pointerdown", ({target}) => {
  if (!byId("charts").contains(target)) pointAt(null);
});
