"use strict";
// Panels of what the filters leave, as wide as there is room. Each mark is a link to its records, as each number of a
// table is, so that the keyboard and a screen reader reach it.
const WIDE = 6.4;  // pixels of a letter, about
const FEW = 8;  // marks that can all be named

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function words(x, y, text, attributes) {
  return svg("text", { x, y, ...attributes }, text);
}

function plain(value) { return String(Number(value.toPrecision(12))); }

function ticks(low, high, most) {
  const power = 10 ** Math.floor(Math.log10((high - low) / most));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => (high - low) / each <= most);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i += 1) found.push(i * step);
  return found;
}

function steps(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power += 1)
    for (const each of [1, 2, 5]) if (each * 10 ** power >= low && each * 10 ** power <= high) found.push(each * 10 ** power);
  return found;
}

// A plot with axes. x: {low, high, ticks, log}; y: {low, high}. Returns the <svg>, its rectangle and both scales.
function plot(figure, chart, x, y, right) {
  const place = figure.querySelector("div");
  const width = Math.max(280, place.clientWidth || 380);
  const height = chart.kind === "dial" ? 300 : 250;
  const box = { left: 42, top: 22, right: width - right, bottom: height - 34 };
  const part = x.log ? (v) => Math.log(v / x.low) / Math.log(x.high / x.low) : (v) => (v - x.low) / (x.high - x.low);
  const at = {
    x: (v) => box.left + part(v) * (box.right - box.left),
    y: (v) => box.bottom - Math.min(1, Math.max(0, (v - y.low) / (y.high - y.low))) * (box.bottom - box.top),
  };
  const made = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `${chart.title}: ${chart.y} by ${chart.x}` });
  for (const value of ticks(y.low, y.high, 5)) {
    made.append(svg("path", { class: "axis", d: `M${box.left} ${at.y(value)}H${box.right}` }),
      words(box.left - 5, at.y(value) + 4, plain(value), { "text-anchor": "end" }));
  }
  let free = -Infinity;
  for (const value of x.ticks) {
    const text = plain(value);
    if (at.x(value) - WIDE * text.length / 2 < free) continue;
    free = at.x(value) + WIDE * text.length / 2 + 6;
    made.append(svg("path", { class: "axis", d: `M${at.x(value)} ${box.bottom}v4` }),
      words(at.x(value), box.bottom + 16, text, { "text-anchor": "middle" }));
  }
  made.append(words((box.left + box.right) / 2, box.bottom + 31, chart.x, { "text-anchor": "middle" }), words(2, 11, chart.y));
  place.replaceChildren(made);
  return { made, box, at, width };
}

// A mark that leads to its records, with its interval.
function mark(id, x, y, ends, size, kind) {
  const cell = data.cells[id];
  const link = svg("a", { class: `cell ${kind}`, href: `#cell=${id}`, "data-cell": id, "data-of": cell.pool,
    "aria-label": `${cell.title}: ${cell.lines.slice(0, 3).join("; ")}` });
  if (ends) link.append(svg("path", { class: "bar", d: `M${x} ${ends[0]}V${ends[1]}` }));
  const shape = kind.includes("base") ? svg("rect", { x: x - size, y: y - size, width: 2 * size, height: 2 * size, class: "mark" })
    : svg("circle", { cx: x, cy: y, r: size, class: "mark" });
  link.append(shape, svg("circle", { cx: x, cy: y, r: 11, class: "hit" }));
  return link;
}

function room(values, share) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const more = share * (high - low) || 0.05 * Math.abs(high) || 1;
  return { low: low - more, high: high + more };
}

// ------------------------------------------------------------------------------------------------------ cost against gain

// By rising cost, those that nothing beats in one and equals in the other.
function front(points) {
  let best = -Infinity;
  return points.filter(([, , gain]) => { const more = gain > best; best = Math.max(best, gain); return more; });
}

function drawCosts(figure, chart) {
  const points = chart.points.filter(([id]) => wanted(data.cells[id])).sort((a, b) => a[1] - b[1] || b[2] - a[2]);
  figure.hidden = !points.length;
  if (!points.length) return;
  const costs = points.map((point) => point[1]);
  const narrow = Math.max(...costs) < 3 * Math.min(...costs);
  const { low, high } = narrow ? room(costs, 0.12) : { low: Math.min(...costs) / 1.2, high: Math.max(...costs) * 1.2 };
  const marked = narrow ? ticks(low, high, 5) : steps(low, high);
  const y = room([0, ...points.map((point) => point[2])], 0.12);
  const { made, box, at } = plot(figure, chart, { low, high, ticks: marked, log: !narrow }, y, 10);
  made.append(svg("path", { class: "line control", style: "stroke-width:1", d: `M${box.left} ${at.y(0)}H${box.right}` }));
  const best = front(points);
  const path = best.map(([, cost, gain], i) => (i ? `H${at.x(cost)}V${at.y(gain)}` : `M${at.x(cost)} ${at.y(gain)}`)).join("");
  made.append(svg("path", { class: "front", d: path }));
  const taken = points.map(([, cost, gain]) => [at.x(cost) - 4, at.y(gain) - 4, at.x(cost) + 4, at.y(gain) + 4]);
  const named = points.length > FEW ? best : [...best, ...points.filter((point) => !best.includes(point))];
  const names = named.map((point) => [point, label(point, at, box, taken)]);
  for (const point of points) {
    const [id, cost, gain, lower, upper, name] = point;
    const cell = data.cells[id];
    const base = lower === null && gain === 0;
    const kind = `${best.includes(point) ? "best " : ""}${Number(cell.control) ? "control " : ""}${base ? "base" : ""}`;
    const link = mark(id, at.x(cost), at.y(gain), lower === null ? null : [at.y(lower), at.y(upper)], best.includes(point) ? 4.5 : 3.5, kind);
    const said = names.find(([each]) => each === point);
    const [x, height, anchor] = said ? said[1] : [Math.min(at.x(cost), box.right - WIDE * name.length), at.y(gain) - 8, "start"];
    link.append(words(x, height, name, { "text-anchor": anchor, class: said ? "name" : "name extra" }));
    made.append(link);
  }
}

// Where a name stands: the first place around its mark that is free.
function label([, cost, gain, , , name], at, box, taken) {
  const [x, y, wide] = [at.x(cost), at.y(gain), WIDE * name.length];
  const places = [];
  for (const away of [0, 1, 2, 3, 4, 5])
    for (const [dx, dy, anchor] of [[7, -6, "start"], [-7, -6, "end"], [8, 4, "start"], [-8, 4, "end"], [7, 14, "start"], [-7, 14, "end"]])
      places.push([x + dx, y + dy + (dy < 0 ? -1 : 1) * 13 * away, anchor]);
  const area = ([left, height, anchor]) => { const start = anchor === "end" ? left - wide : left; return [start, height - 9, start + wide, height + 2]; };
  const inside = ([a, b, c, d]) => a >= box.left && c <= box.right + 8 && b >= box.top - 8 && d <= box.bottom;
  const meets = (one, two) => one[0] < two[2] && two[0] < one[2] && one[1] < two[3] && two[1] < one[3];
  const found = places.find((each) => inside(area(each)) && !taken.some((other) => meets(area(each), other))) || places[0];
  taken.push(area(found));
  return found;
}

// ------------------------------------------------------------------------------------------------------ scores over dials

function drawDial(figure, chart) {
  const seen = state.dataset ? chart.lines.some((line) => line.points.some(([id]) => data.cells[id].dataset === state.dataset)) : true;
  const lines = chart.lines.filter((line) => line.points.length && seen && wanted({ ...data.cells[line.points[0][0]], dataset: "" }));
  figure.hidden = !lines.length;
  if (!lines.length) return;
  const values = [...new Set(lines.flatMap((line) => line.points.map((point) => point[1])).filter((value) => value !== null))].sort((a, b) => a - b);
  if (!values.length) { figure.hidden = true; return; }
  const heights = lines.flatMap((line) => line.points.flatMap((point) => point.slice(2))).filter((value) => value !== null);
  const wide = Math.max(...lines.map((line) => WIDE * line.name.length)) + 26;
  const edge = chart.log ? (values.at(-1) / values[0]) ** 0.08 || 1.1 : 0.08 * (values.at(-1) - values[0]) || 1;
  const x = chart.log ? { low: values[0] / edge, high: values.at(-1) * edge } : { low: values[0] - edge, high: values.at(-1) + edge };
  const { made, box, at } = plot(figure, chart, { ...x, ticks: values, log: chart.log }, room(heights, 0.04), wide);
  const ends = [];
  lines.forEach((line, i) => {
    const aside = Math.min(4, 24 / lines.length) * (i - (lines.length - 1) / 2);
    const flat = line.points[0][1] === null;
    const across = (value) => (value === null ? box.right - 6 : at.x(value)) + aside;
    const colour = { ink: "var(--ink)", grey: "var(--zero)" }[line.colour] || `color-mix(in oklab, ${line.colour} 82%, var(--ink))`;
    const group = svg("g", { class: "dial", style: `color:${colour}` });
    const path = line.points.map(([, value, mean], k) => `${k ? "L" : "M"}${across(value)} ${at.y(mean)}`).join("");
    group.append(svg("path", { class: "line", d: flat ? `M${box.left} ${at.y(line.points[0][2])}H${box.right - 6}` : path, "stroke-dasharray": line.colour === "grey" || flat ? "5 3" : "none" }));
    for (const [id, value, mean, low, high] of line.points) {
      const link = mark(id, across(value), at.y(mean), low === null ? null : [at.y(low), at.y(high)], 3.5, line.colour === "ink" ? "base" : "");
      link.style.color = "inherit";
      group.append(link);
    }
    made.append(group);
    const last = line.points.at(-1);
    ends.push({ x: across(last[1]), y: at.y(last[2]), name: line.name, colour });
  });
  ends.sort((a, b) => a.y - b.y);
  const placed = apart(ends.map((end) => end.y), 14, box.top + 4, box.bottom);
  ends.forEach((end, i) => {
    const place = [`M${end.x + 5} ${end.y}L${box.right + 12} ${placed[i]}h4`];
    made.append(svg("path", { class: "line", style: `color:${end.colour};stroke-width:.8;opacity:.7`, d: place[0] }),
      words(box.right + 19, placed[i] + 4, end.name, { class: "name" }));
  });
}

// Rising heights with a step between them, each as near to its own as the others leave room.
function apart(heights, step, top, bottom) {
  const groups = [];
  heights.forEach((height, i) => {
    groups.push([height - i * step]);
    const mean = (group) => group.reduce((sum, each) => sum + each, 0) / group.length;
    while (groups.length > 1 && mean(groups.at(-2)) > mean(groups.at(-1))) groups.splice(-2, 2, [...groups.at(-2), ...groups.at(-1)]);
  });
  const flat = groups.flatMap((group) => group.map(() => group.reduce((sum, each) => sum + each, 0) / group.length));
  return flat.map((each, i) => Math.min(Math.max(each + i * step, top + step * i), bottom - step * (flat.length - 1 - i)));
}

function draw(figure) {
  const chart = data.charts[Number(figure.dataset.chart)];
  figure.hidden = false;
  figure.querySelector("div").replaceChildren();
  (chart.kind === "cost" ? drawCosts : drawDial)(figure, chart);
}
