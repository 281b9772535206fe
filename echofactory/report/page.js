"use strict";
// Draws the charts of the page. The data are in the element "data"; charts.py describes them.
(() => {
  const charts = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const drawn = [];

  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const lineColour = (line) => colour(line.colour < 0 ? "ink" : `c${line.colour}`);
  const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
  const BORDERS = ["solid", "dashed", "dotted", "double"];

  const grouped = (value, digits) => value.toLocaleString("en-US", {
    minimumFractionDigits: digits, maximumFractionDigits: digits });
  // The same forms as in the report.
  function duration(ns) {
    if (ns < 9950) return `${(ns / 1e3).toFixed(1)} µs`;
    if (ns < 999500) return `${(ns / 1e3).toFixed(0)} µs`;
    if (ns < 999500000) return `${threeDigits(ns / 1e6)} ms`;
    return `${threeDigits(ns / 1e9)} s`;
  }
  const threeDigits = (number) => grouped(number, number < 9.995 ? 2 : number < 99.95 ? 1 : 0);
  function roundDuration(ns) {
    for (const [unit, name] of [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]])
      if (ns >= unit * 0.999) return `${+(ns / unit).toPrecision(3)} ${name}`;
    return `${+ns.toPrecision(3)} ns`;
  }
  const rate = (value) => value < 10 ? `${+value.toPrecision(3)}/s` : `${grouped(value, 0)}/s`;
  const percentile = (place) => `p${+(100 * (1 - 1 / place)).toFixed(place > 1e3 ? 4 : 2)}`;
  const seconds = (at) => `${+at.toFixed(3)} s`;
  const VALUES = { latency: duration, rate, count: (value) => grouped(value, 0) };
  const TICKS = { latency: roundDuration, rate: (value) => grouped(value, value % 1 ? 1 : 0),
    count: (value) => value % 1 ? "" : grouped(value, 0) };

  // The places of 1, 2 and 5 times each power of ten; fewer if they do not fit.
  function splits(u, _, min, max) {
    for (const steps of [[1, 2, 5], [1], [1, -1]]) {
      const found = [];
      for (let power = Math.floor(Math.log10(min)); power <= Math.log10(max); power++)
        if (steps.length !== 2 || power % 2 === 0)
          for (const step of steps)
            if (step > 0 && step * 10 ** power >= min && step * 10 ** power <= max)
              found.push(step * 10 ** power);
      if (found.length * 18 < u.height - 50 || steps.length === 2) return found;
    }
    return [];
  }
  function percentiles(u, _, min, max) {
    const found = [1, 10, 2], pixels = (u.width - 82) / Math.log(max / min);
    for (let place = 100; place <= max; place *= 10) found.push(place);
    const inside = found.filter((place, i) => place >= min && place <= max
      && found.slice(0, i).every((other) => Math.abs(Math.log(place / other)) * pixels > 36));
    inside.sort((one, other) => one - other);
    // Zoomed in between two of them.
    return inside.length > 1 ? inside : [min, Math.sqrt(min * max), max];
  }

  // y holds from the x before to its own x; undefined is the x of another line.
  const steps = (line) => (u, index, first, last) => {
    const [xs, ys] = [u.data[0], u.data[index]], path = new Path2D(), brief = new Set(line.brief);
    // Of many points in one column of pixels, only the lowest and the highest are drawn.
    let column = null, low = 0, high = 0;
    const drawColumn = () => {
      if (column === null) return;
      path.lineTo(column, low);
      path.lineTo(column, high);
      column = null;
    };
    let from = null, joined = false, i = first;
    do i--; while (i > 0 && ys[i] === undefined);
    for (i = Math.max(i, 0); i < xs.length; i++) {
      if (ys[i] === undefined) continue;
      const x = u.valToPos(xs[i], "x", true);
      if (ys[i] === null) {
        drawColumn();
        joined = false;
      } else {
        const alone = brief.has(xs[i]);
        const y = Math.min(Math.max(u.valToPos(ys[i], "y", true), -1e5), 1e5);
        if (joined && !alone && x - (column ?? from) < 0.5) {
          if (column === null) [column, low, high] = [from, y, y];
          [low, high] = [Math.min(low, y), Math.max(high, y)];
          continue;
        }
        drawColumn();
        const begin = alone && from !== null ? Math.min(from, x - 4 * devicePixelRatio) : from;
        if (from !== null) path[joined && !alone ? "lineTo" : "moveTo"](begin, y);
        path[from === null ? "moveTo" : "lineTo"](x, y);
        joined = !alone;
      }
      from = x;
      if (i > last) break;
    }
    drawColumn();
    return { stroke: path, fill: null, clip: null, band: null, gaps: null, flags: 0 };
  };

  // The index whose interval the cursor is in: the first own x that is not left of it.
  const indexAt = (spec) => (u, index, closest) => {
    const xs = u.data[0], ys = u.data[index];
    if (index === 0 || !spec.lines[index - 1].stepped) {
      if (index === 0 || ys[closest] !== undefined) return closest;
      let [left, right] = [closest, closest];
      while (left >= 0 && ys[left] === undefined) left--;
      while (right < xs.length && ys[right] === undefined) right++;
      return right >= xs.length || (left >= 0 && closest - left < right - closest)
        ? Math.max(left, 0) : right;
    }
    let at = closest;
    while (at > 0 && u.valToPos(xs[at - 1], "x") >= u.cursor.left - 0.5) at--;
    while (at < xs.length && (ys[at] === undefined
      || u.valToPos(xs[at], "x") < u.cursor.left - 0.5)) at++;
    return Math.min(at, xs.length - 1);
  };

  function range(spec) {
    return (u, min, max) => {
      if (min == null) return [spec.y === "latency" ? 1000 : 0, spec.y === "latency" ? 1e6 : 1];
      if (spec.y !== "latency") return [0, 1.1 * Math.min(max, spec.top || max) || 1];
      for (const limit of spec.limits || [])
        if (limit.at < 20 * max) {
          max = Math.max(max, limit.at);
          min = Math.min(min, limit.at);
        }
      if (max > spec.bottom) min = Math.max(min, spec.bottom);
      return [0.85 * min, 1.2 * max];
    };
  }

  function marks(spec) {
    return (u) => {
      const { ctx } = u, { left, top, width, height } = u.bbox, ratio = devicePixelRatio;
      ctx.save();
      ctx.beginPath();
      ctx.rect(left, top, width, height);
      ctx.clip();
      ctx.font = `${12 * ratio}px system-ui, sans-serif`;
      ctx.fillStyle = ctx.strokeStyle = colour("ink");
      ctx.lineWidth = 1.2 * ratio;
      ctx.textAlign = "left";
      ctx.textBaseline = "alphabetic";
      for (const limit of spec.limits || []) {
        const y = u.valToPos(limit.at, "y", true);
        ctx.setLineDash([8 * ratio, 3 * ratio, 2 * ratio, 3 * ratio]);
        ctx.beginPath();
        ctx.moveTo(left, y);
        ctx.lineTo(left + width, y);
        ctx.stroke();
        ctx.fillText(limit.text, left + 6 * ratio, y - (y < top + 20 * ratio ? -14 : 5) * ratio);
      }
      ctx.setLineDash([]);
      // A triangle stands for each value above the scale.
      spec.lines.forEach((line, number) => {
        if (!spec.top || !u.series[number + 1].show) return;
        u.data[number + 1].forEach((value, i) => {
          if (value == null || value <= u.scales.y.max) return;
          const x = Math.min(u.valToPos(u.data[0][i], "x", true), left + width - 5 * ratio);
          ctx.beginPath();
          ctx.moveTo(x, top + 2 * ratio);
          ctx.lineTo(x - 5 * ratio, top + 10 * ratio);
          ctx.lineTo(x + 5 * ratio, top + 10 * ratio);
          ctx.fill();
        });
      });
      ctx.restore();
    };
  }

  function bands(spec) {
    return (u) => {
      const { ctx } = u, { left, top, width, height } = u.bbox;
      ctx.save();
      ctx.fillStyle = colour("grid");
      ctx.globalAlpha = 0.6;
      for (const [from, to] of spec.partial || []) {
        const begin = Math.max(left, u.valToPos(from, "x", true));
        const end = Math.min(left + width, u.valToPos(to, "x", true));
        if (end > begin) ctx.fillRect(begin, top, Math.max(end - begin, 1), height);
      }
      ctx.restore();
    };
  }

  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  // The words for where the cursor is.
  function place(u, spec) {
    const at = u.cursor.idx == null ? null : u.data[0][u.cursor.idx];
    if (at == null || u.cursor.left < 0) return "";
    const x = u.posToVal(u.cursor.left, "x");
    if (spec.x === "percentile") return percentile(Math.max(x, 1));
    if (spec.x === "rate") return `${rate(at)} asked`;
    const index = u.cursor.idxs?.[1] ?? u.cursor.idx, ys = u.data[1];
    let before = index - 1;
    while (before > 0 && ys[before] === undefined) before--;
    const text = `${seconds(u.data[0][Math.max(before, 0)])} to ${seconds(u.data[0][index])}`;
    const partial = (spec.partial || []).some(
      ([from, to]) => Math.abs(to - u.data[0][index]) < 1e-5);
    return partial ? `${text} (partial interval)` : text;
  }

  function show(spec) {
    const id = `chart-${spec.id}`;
    spec.lines.forEach((line) => { line.stepped = (line.kind || spec.kind) === "step"; });
    const whole = [
      Math.min(...spec.lines.map((line) => line.x[0])),
      Math.max(...spec.lines.map((line) => line.x[line.x.length - 1])),
    ];
    if (whole[0] === whole[1]) whole[1] += spec.x === "percentile" ? 9 : 1;
    if (spec.x === "rate") {
      const margin = 0.03 * (whole[1] - whole[0]);
      whole[0] -= margin;
      whole[1] += margin;
    }
    const data = uPlot.join(spec.lines.map((line) => [line.x, line.y]));

    const legend = element("div", { className: "legend" });
    const values = spec.lines.map((line, number) => {
      const value = element("b");
      const swatch = element("i");
      swatch.style.borderTopStyle = BORDERS[line.dash];
      swatch.style.borderTopColor = `var(--${line.colour < 0 ? "ink" : `c${line.colour}`})`;
      const button = element("button", { type: "button" }, swatch, line.label, value);
      button.setAttribute("aria-pressed", !line.off);
      button.onclick = () => {
        const on = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", on);
        u.setSeries(number + 1, { show: on });
      };
      legend.append(button);
      return value;
    });
    const zoomIn = element("button", { type: "button", textContent: "+", title: "Zoom in" });
    const zoomOut = element("button", { type: "button", textContent: "−", title: "Zoom out" });
    const reset = element("button", { type: "button", textContent: "Whole" });
    for (const [button, name] of [[zoomIn, "Zoom in"], [zoomOut, "Zoom out"], [reset, "Show the whole"]])
      button.setAttribute("aria-label", `${name}: ${spec.title}`);
    const holder = element("div", { className: "plot", tabIndex: 0 });
    holder.setAttribute("role", "group");
    holder.setAttribute("aria-label", `${spec.title}. ${spec.told} Left and right arrow keys:`
      + " values. Plus, minus and zero: zoom.");
    const at = element("p", { className: "at" });
    at.setAttribute("aria-live", "polite");
    const section = element("section", { className: "chart", id },
      element("header", {}, element("h2", { textContent: spec.title }),
        element("div", { className: "zoom" }, zoomIn, zoomOut, reset)),
      holder, at, legend);
    document.getElementById("charts").append(section);

    const logarithmic = spec.x === "percentile";
    const axis = { stroke: () => colour("dim"), font: "12px system-ui, sans-serif",
      grid: { stroke: () => colour("grid"), width: 1 },
      ticks: { stroke: () => colour("grid"), width: 1 } };
    const u = new uPlot({
      width: holder.clientWidth, height: 260, legend: { show: false },
      padding: [12, 28, 0, 0],
      scales: {
        x: { time: false, distr: logarithmic ? 3 : 1, range: (_, min, max) =>
          min == null ? whole : [min, max] },
        y: { distr: spec.y === "latency" ? 3 : 1, range: range(spec) },
      },
      axes: [
        { ...axis, ...(logarithmic ? { splits: percentiles, values: (_, all) => all.map(percentile) }
          : { values: (_, all) => all.map((v) => spec.x === "time" ? seconds(v) : grouped(v, 0)) }),
        space: 70, size: 34, filter: (_, all) => all },
        { ...axis, size: 66, ...(spec.y === "latency" ? { splits } : {}),
          filter: (_, all) => all, values: (_, all) => all.map(TICKS[spec.y]) },
      ],
      series: [{}, ...spec.lines.map((line) => {
        const kind = line.kind || spec.kind;
        return {
          label: line.label, show: !line.off, stroke: () => lineColour(line), width: line.width,
          dash: DASHES[line.dash],
          paths: kind === "step" ? steps(line) : kind === "cross" ? () => null : uPlot.paths.linear(),
          points: { show: Boolean(line.dots) || kind === "cross", size: kind === "cross" ? 11 : 7,
            fill: () => kind === "cross" ? "transparent" : lineColour(line),
            stroke: () => lineColour(line) },
        };
      })],
      cursor: {
        y: false, dataIdx: indexAt(spec), drag: { x: true, y: false, setScale: true },
        points: { fill: (chart, index) => lineColour(spec.lines[index - 1]) },
        bind: { dblclick: () => () => { showWhole(); return null; } },
        ...(spec.x === "time" ? { sync: { key: "time", scales: ["x", null], filters: {
          pub: (type) => type === "mousemove" || type === "mouseleave" } } } : {}),
      },
      hooks: {
        drawAxes: [bands(spec)],
        draw: [marks(spec)],
        setCursor: [(chart) => {
          at.textContent = place(chart, spec);
          values.forEach((value, number) => {
            const index = chart.cursor.idxs[number + 1];
            const y = index == null || !at.textContent ? null : chart.data[number + 1][index];
            value.textContent = y == null ? "" : VALUES[spec.y](y);
          });
        }],
        setScale: [(chart, key) => {
          if (key === "x") zoomed(chart.scales.x);
        }],
      },
    }, data, holder);

    // All charts over time show the same time.
    const group = () => drawn.filter((other) => other.u === u
      || (spec.x === "time" && other.spec.x === "time"));
    let following = false;
    function follow(min, max) {
      following = true;
      u.batch(() => u.setScale("x", { min, max }));
      following = false;
      // Of all charts over time: the schedule can last longer than the run.
      const [least, most] = all();
      const near = (one, other) => Math.abs(one - other) < 1e-6 * (most - least);
      zoomOut.disabled = reset.disabled = near(min, least) && near(max, most);
    }
    function zoomed({ min, max }) {
      if (following || min == null) return;
      for (const other of group()) other.follow(min, max);
    }
    const all = () => {
      const wholes = group().map((other) => other.whole);
      return [Math.min(...wholes.map(([min]) => min)), Math.max(...wholes.map(([, max]) => max))];
    };
    function zoomBy(factor) {
      const { min, max } = u.scales.x, [least, most] = all();
      const to = logarithmic ? Math.log : (value) => value;
      const back = logarithmic ? Math.exp : (value) => value;
      const [low, high] = [to(min), to(max)];
      const there = u.cursor.left >= 0 ? to(u.posToVal(u.cursor.left, "x")) : (low + high) / 2;
      const size = Math.min((high - low) * factor, to(most) - to(least));
      let begin = there - size * (there - low) / (high - low);
      begin = Math.min(Math.max(begin, to(least)), to(most) - size);
      zoomed({ min: back(begin), max: back(begin + size) });
    }
    function showWhole() {
      const [min, max] = all();
      zoomed({ min, max });
    }
    function move(by) {
      const { min, max } = u.scales.x;
      // The schedule has corners between the intervals, which the keys pass over.
      const some = spec.lines.some((line) => line.stepped);
      const xs = u.data[0].filter((x, i) => x >= min && x <= max && spec.lines.some(
        (line, number) => line.stepped === some && u.data[number + 1][i] != null));
      if (!xs.length) return;
      const now = u.cursor.left < 0 ? (by > 0 ? -1 : xs.length)
        : xs.findIndex((x) => u.valToPos(x, "x") >= u.cursor.left - 0.5);
      const x = xs[Math.min(Math.max((now < 0 ? xs.length : now) + by, 0), xs.length - 1)];
      u.setCursor({ left: u.valToPos(x, "x"), top: 0 });
    }
    zoomIn.onclick = () => zoomBy(0.5);
    zoomOut.onclick = () => zoomBy(2);
    reset.onclick = showWhole;
    holder.onkeydown = (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const action = {
        ArrowLeft: () => move(-1), ArrowRight: () => move(1),
        Home: () => move(-Infinity), End: () => move(Infinity),
        "+": () => zoomBy(0.5), "=": () => zoomBy(0.5), "-": () => zoomBy(2),
        0: showWhole, Escape: showWhole,
      }[event.key];
      if (action === undefined) return;
      event.preventDefault();
      action();
    };
    new ResizeObserver(() => {
      if (holder.clientWidth && holder.clientWidth !== u.width)
        u.setSize({ width: holder.clientWidth, height: u.height });
    }).observe(holder);
    drawn.push({ u, spec, whole, follow });
  }

  charts.forEach(show);
  for (const { whole, follow, spec } of drawn) {
    const wholes = drawn.filter((other) => other.spec.x === "time").map((other) => other.whole);
    if (spec.x !== "time") follow(...whole);
    else follow(Math.min(...wholes.map(([min]) => min)), Math.max(...wholes.map(([, max]) => max)));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const { u } of drawn) u.redraw(false, true);
  });
  // The tests of the page read the charts here.
  window.charts = drawn.map(({ u }) => u);
})();
