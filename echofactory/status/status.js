// Fetches the view once a second, and draws it.
"use strict";

// With these two, a server that no longer answers is shown as gone within 2 s.
const PERIOD_MS = 1000;
const PATIENCE_MS = 700;
// Once a response has begun, the server is there, and only the network is slow.
const LINE_PATIENCE_MS = 5000;

const HISTORY_S = 300;
// The minimum width of a chart's labels, so that charts in one column have the same time axis.
const LABELS_WIDTH = 64;
// Samples are one second apart. If two are further apart than this, samples are missing.
const GAP_S = 2.5;
const CHART_HEIGHT = 150;
const SVG = "http://www.w3.org/2000/svg";
const SPACE = "\u00a0";
const NOTHING = "–";

const byId = (id) => document.getElementById(id);

let paused = false;
let gone = false;
let heardAt = null;
let drawn = null;
let drawnAt = null;

const clockTime = (date) => date.toLocaleTimeString("en-GB");
// Whether the values on the page are old, and do not change.
const still = () => (paused || gone) && drawnAt !== null;

// Numbers, with units.

function withSeparators(number) {
  if (Math.abs(number) < 1) return number.toLocaleString("en", {maximumSignificantDigits: 3});
  const digits = Number.isInteger(number) || Math.abs(number) >= 100 ? 0 : 1;
  return number.toLocaleString("en", {maximumFractionDigits: digits});
}

function binary(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let power = 0;
  while (bytes >= 1024 && power < units.length - 1) {
    bytes /= 1024;
    power += 1;
  }
  return [withSeparators(power ? bytes : Math.round(bytes)), units[power]];
}

function duration(seconds) {
  const whole = Math.floor(seconds);
  const [d, h, min, s] = [
    Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60, whole % 60,
  ];
  const parts = d ? [[d, "d"], [h, "h"]] : h ? [[h, "h"], [min, "min"]] : [[min, "min"], [s, "s"]];
  if (parts[0][0] === 0) parts.shift();
  return parts.map(([n, unit]) => withSeparators(n) + SPACE + unit).join(" ");
}

// Returns a value as the number and its unit.
function parts(value, unit) {
  if (value === null || value === undefined) return [NOTHING, ""];
  if (typeof value === "string") return [value, ""];
  if (unit === "B") return binary(value);
  if (unit === "B/s") {
    const [number, size] = binary(value);
    return [number, size + "/s"];
  }
  if (unit === "s") return [duration(value), ""];
  return [withSeparators(value), unit];
}

function joined(number, unit) {
  return unit ? number + (unit.startsWith("/") ? "" : SPACE) + unit : number;
}

function text(value, unit) {
  return joined(...parts(value, unit));
}

// Elements are kept from one second to the next, so that a selection stays.

function make(name, ...children) {
  const element = document.createElement(name);
  element.append(...children);
  return element;
}

function makeSVG(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// Never as HTML, because a peer can choose its name.
function say(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

function fit(parent, count, makeOne) {
  while (parent.children.length > count) parent.lastElementChild.remove();
  while (parent.children.length < count) parent.append(makeOne());
  return Array.from(parent.children);
}

function drawTiles(tiles) {
  const makeTile = () => {
    const unit = make("span");
    unit.className = "unit";
    return make("div", make("dt"), make("dd", make("span"), unit));
  };
  fit(byId("tiles"), tiles.length, makeTile).forEach((tile, index) => {
    const {name, value, unit} = tiles[index];
    const [number, its] = parts(value, unit);
    say(tile.querySelector("dt"), name);
    say(tile.querySelector("dd span"), number);
    say(tile.querySelector(".unit"), its && SPACE + its);
  });
}

// Returns the values of a chart's grid lines: at most five, from 0 to at least the highest
// value, at a round distance.
function scale(highest, unit, whole) {
  const base = unit.startsWith("B") ? 1024 : 10;
  const steps = base === 10 ? [1, 2, 5, 10] : [1, 2, 5, 10, 20, 50, 100, 200, 500, 1024];
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
  figure.append(makeSVG("svg", {role: "img"}));
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

function drawChart(figure, {title, unit, points}) {
  const svg = figure.querySelector("svg");
  const values = points.map(([, value]) => value).filter((value) => value !== null);
  const highest = values.reduce((a, b) => Math.max(a, b), 0);
  const lowest = values.reduce((a, b) => Math.min(a, b), Infinity);
  const now = text(points.at(-1)?.[1], unit);
  say(figure.querySelector("h3"), title);
  say(figure.querySelector(".level"), now);
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
    const label = makeSVG("text", {x: left - 6, y: at + 4, "text-anchor": "end"});
    label.textContent = labels[index];
    children.push(label);
  });
  const ends = still() ? ["5 min before", clockTime(drawnAt)] : ["5 min ago", "now"];
  for (const [t, words, anchor] of [[-HISTORY_S, ends[0], "start"], [0, ends[1], "end"]]) {
    const label = makeSVG("text", {x: x(t), y: CHART_HEIGHT - 4, "text-anchor": anchor});
    label.textContent = words;
    children.push(label);
  }
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
  svg.replaceChildren(...children);
}

function drawTable(table, {caption, since, columns, rows, empty}) {
  say(table.querySelector("caption b"), caption);
  say(table.querySelector("caption span"), since && `since ${since}`);
  // Numbers and their headings are aligned right.
  const numeric = columns.map((_, index) =>
    index > 0 && rows.some((row) => typeof row[index] === "number"));
  const heads = fit(table.querySelector("thead tr"), columns.length, () => {
    const head = make("th");
    head.scope = "col";
    return head;
  });
  heads.forEach((head, index) => {
    say(head, columns[index].name);
    head.classList.toggle("number", numeric[index]);
  });
  // A sentence needs more than a third of the page's width.
  table.classList.toggle("wide", rows.some((row) => row.some((cell) => cell?.length > 80)));
  const body = table.querySelector("tbody");
  if (body.classList.toggle("empty", !rows.length)) {
    const cell = make("td", empty);
    cell.colSpan = columns.length;
    cell.className = "empty";
    body.replaceChildren(make("tr", cell));
    return;
  }
  if (body.querySelector("td.empty")) body.replaceChildren();
  fit(body, rows.length, () => make("tr")).forEach((line, index) => {
    const cells = fit(line, columns.length, () => {
      const cell = make(line.children.length ? "td" : "th");
      if (!line.children.length) cell.scope = "row";
      return cell;
    });
    cells.forEach((cell, column) => {
      const words = text(rows[index][column], columns[column].unit);
      say(cell, words);
      // A long word, such as an IPv6 address, is wider than a phone's screen.
      cell.classList.toggle("long", words.split(" ").some((word) => word.length > 20));
      cell.classList.toggle("number", numeric[column]);
    });
  });
}

function draw(view) {
  say(byId("title"), view.title);
  say(byId("now"), still() ? `At ${clockTime(drawnAt)}` : "Now");
  say(byId("lately"), still() ? `5 minutes before ${clockTime(drawnAt)}` : "Last 5 minutes");
  drawTiles(view.tiles);
  // Four charts are two rows of two, not a row of three and a row of one.
  byId("charts").classList.toggle("even", view.charts.length === 4);
  fit(byId("charts"), view.charts.length, makeChart)
    .forEach((figure, index) => drawChart(figure, view.charts[index]));
  fit(byId("tables"), view.tables.length, () =>
    make("table", make("caption", make("b"), make("span")), make("thead", make("tr")), make("tbody")))
    .forEach((table, index) => drawTable(table, view.tables[index]));
  say(byId("footer"), view.footer);
}

// Draws the last view again: the page has another width, or the values are old now.
function drawAgain() {
  if (drawn) draw(drawn);
}

// Whether the server answers.

function tell(state, words) {
  byId("state").dataset.state = state;
  say(byId("state"), words);
  document.title = `${words}: ${byId("title").textContent}`;
  document.body.classList.toggle("gone", state === "gone");
  byId("banner").hidden = state !== "gone";
}

function heard(view) {
  gone = false;
  if (paused) {
    drawAgain();
  } else {
    draw(view);
    drawn = view;
    drawnAt = new Date();
  }
  tell(view.condition, view.state);
  heardAt = new Date();
}

function missed() {
  gone = true;
  drawAgain();
  say(byId("banner"), heardAt
    ? `No answer since ${clockTime(heardAt)}. Trying again every second.`
    : "No answer. Trying again every second.");
  tell("gone", "no answer");
}

async function ask() {
  const control = new AbortController();
  let timer = setTimeout(() => control.abort(), PATIENCE_MS);
  try {
    const answer = await fetch("view.json", {cache: "no-store", signal: control.signal});
    if (!answer.ok) throw new Error(answer.statusText);
    clearTimeout(timer);
    timer = setTimeout(() => control.abort(), LINE_PATIENCE_MS);
    const view = await answer.json();
    if (!Array.isArray(view?.tiles)) throw new TypeError("not a view of echofactory");
    return view;
  } finally {
    clearTimeout(timer);
  }
}

async function watch() {
  const began = performance.now();
  try {
    heard(await ask());
  } catch {
    missed();
  }
  setTimeout(watch, Math.max(0, began + PERIOD_MS - performance.now()));
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  say(byId("pause"), paused ? "Resume" : "Pause");
  drawAgain();
});
addEventListener("resize", drawAgain);
watch();
