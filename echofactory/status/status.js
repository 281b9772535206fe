// Fetches the view once a second, and draws it.
"use strict";

// With these two, a server that no longer answers is shown as gone within 2 s.
const PERIOD_MS = 1000;
const PATIENCE_MS = 700;
// Once a response has begun, the server is there, and only the network is slow.
const LINE_PATIENCE_MS = 5000;

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

// Never as HTML, because a peer can choose its name.
function say(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

function fit(parent, count, makeOne) {
  while (parent.children.length > count) parent.lastElementChild.remove();
  while (parent.children.length < count) parent.append(makeOne());
  return Array.from(parent.children);
}

function drawTiles(list, tiles) {
  const makeTile = () => {
    const unit = make("span");
    unit.className = "unit";
    return make("div", make("dt"), make("dd", make("span"), unit));
  };
  fit(list, tiles.length, makeTile).forEach((tile, index) => {
    const {name, value, unit} = tiles[index];
    const [number, its] = parts(value, unit);
    say(tile.querySelector("dt"), name);
    say(tile.querySelector("dd span"), number);
    say(tile.querySelector(".unit"), its && SPACE + its);
  });
}

// A table that is too wide for a phone is scrolled in its frame.
function makeTable() {
  const caption = make("caption", make("b"), make("span"));
  return make("div", make("table", caption, make("thead", make("tr")), make("tbody")));
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
  // A sentence needs more than a third of the page's width, and so do many columns.
  table.parentElement.classList.toggle("wide",
    columns.length > 5 || rows.some((row) => row.some((cell) => cell?.length > 80)));
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
  drawTiles(byId("about"), view.about);
  drawTiles(byId("tiles"), view.tiles);
  // Four charts are two rows of two, not a row of three and a row of one.
  byId("charts").classList.toggle("even", view.charts.length === 4);
  fit(byId("charts"), view.charts.length, makeChart)
    .forEach((figure, index) => drawChart(figure, view.charts[index]));
  fit(byId("tables"), view.tables.length, makeTable)
    .forEach((frame, index) => drawTable(frame.firstElementChild, view.tables[index]));
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
    const before = drawnAt;
    drawnAt = new Date();
    try {
      draw(view);
    } catch (error) {
      // The answer of another program: the last view is drawn again.
      drawnAt = before;
      throw error;
    }
    drawn = view;
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
