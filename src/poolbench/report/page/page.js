"use strict";
// The state of the page is its address, so that a view can be sent to somebody:
// #dataset=PROTEINS&pool=topk&sort=-score&cell=ID
window.addEventListener("error", (event) => { document.documentElement.dataset.error = event.message; });
const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("filters");
const dialog = document.getElementById("cell");
const tip = document.getElementById("tip");
const tables = [...document.querySelectorAll("table.leaderboard")];
const FIELDS = ["protocol", "dataset", "model", "pool"];
const state = {};

// ------------------------------------------------------------------------------------------------------------ filters

function readAddress() {
  for (const key of Object.keys(state)) delete state[key];
  for (const [key, value] of new URLSearchParams(location.hash.slice(1))) state[key] = value;
  for (const name of FIELDS) form.elements[name].value = state[name] || "";
  form.elements.controls.checked = state.controls !== "0";
  form.elements.lost.checked = state.lost === "1";
  show();
}

function writeAddress() {
  const set = Object.entries(state).filter(([, value]) => value);
  history.replaceState(null, "", "#" + new URLSearchParams(set));
  show();
}

function readForm() {
  for (const name of FIELDS) state[name] = form.elements[name].value;
  state.controls = form.elements.controls.checked ? "" : "0";
  state.lost = form.elements.lost.checked ? "1" : "";
  writeAddress();
}

// Names with commas in them are in parentheses.
function named(pool) {
  const asked = (state.pool || "").toLowerCase().trim();
  const parts = asked.includes("(") ? [asked] : asked.split(",").map((part) => part.trim()).filter(Boolean);
  return !parts.length || parts.some((part) => pool.toLowerCase().includes(part));
}

// What an element, or a cell of the data, says of itself: pool, model, control, lost, and mostly its dataset.
function wanted(d) {
  return (!state.dataset || !d.dataset || d.dataset === state.dataset) && (!state.model || d.model === state.model)
    && named(d.pool) && (state.controls !== "0" || Number(d.control) !== 1)
    && (state.lost !== "1" || Number(d.lost) === 1);
}

function show() {
  for (const board of document.querySelectorAll("[data-protocol]"))
    board.hidden = Boolean(state.protocol) && board.dataset.protocol !== state.protocol;
  for (const part of document.querySelectorAll("[data-dataset]:not([data-pool])"))
    part.hidden = Boolean(state.dataset) && part.dataset.dataset !== state.dataset;
  for (const row of document.querySelectorAll("tr[data-pool]")) row.hidden = !wanted(row.dataset);
  for (const body of document.querySelectorAll("table.matrix tbody"))
    body.hidden = !body.querySelector("tr[data-pool]:not([hidden])");
  for (const table of tables) {
    const rows = [...table.tBodies[0].rows];
    sort(table, rows);
    const shown = rows.filter((row) => !row.hidden).length;
    table.closest(".part").querySelector(".shown").textContent = `${shown} of ${rows.length} rows. `;
  }
  document.querySelectorAll(".chart").forEach(draw);
  for (const part of document.querySelectorAll(".part")) hideEmpty(part);
  const boards = [...document.querySelectorAll("[data-protocol]")];
  document.getElementById("nothing").hidden = boards.some((board) => !board.hidden && board.querySelector(".part:not([hidden])"));
  document.querySelectorAll("table, .chart svg").forEach((place) => enter(place));
  openCell(state.cell);
}

// A part whose rows and charts are all left out is left out.
function hideEmpty(part) {
  const of = [...part.querySelectorAll("tr[data-pool], .chart, .answer")];
  const away = part.dataset.dataset && state.dataset && part.dataset.dataset !== state.dataset;
  part.hidden = Boolean(away) || (of.length > 0 && of.every((each) => each.hidden));
}

function sort(table, rows) {
  const falling = (state.sort || "").startsWith("-");
  const key = (state.sort || "").replace(/^-/, "");
  const heads = [...table.tHead.rows[0].cells];
  const column = heads.findIndex((head) => head.dataset.key === key);
  for (const head of heads) head.removeAttribute("aria-sort");
  if (column < 0) {
    rows.sort((a, b) => a.dataset.order - b.dataset.order);
  } else {
    heads[column].setAttribute("aria-sort", falling ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.value;
    const numeric = rows.every((row) => value(row) === "" || !Number.isNaN(Number(value(row))));
    const within = !["pool", "model", "setting", "dataset"].includes(key);
    const compare = numeric ? (a, b) => a - b : (a, b) => a.localeCompare(b);
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (within && a.dataset.group !== b.dataset.group) return a.dataset.group - b.dataset.group;
      if (x === "" || y === "") return (x === "") - (y === "") || a.dataset.order - b.dataset.order;
      return (falling ? -1 : 1) * compare(x, y) || a.dataset.order - b.dataset.order;
    });
  }
  table.tBodies[0].append(...rows);
}

// ------------------------------------------------------------------------------------------------------------ records

function element(tag, text, properties) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  return Object.assign(made, properties || {});
}

function openCell(id) {
  const cell = data.cells[id];
  if (!cell) { if (dialog.open) dialog.close(); return; }
  document.getElementById("cell-title").textContent = cell.title;
  const body = document.getElementById("cell-body");
  body.replaceChildren(...cell.lines.map((line) => element("p", line)), element("h3", "Records"));
  for (const each of (cell.of || [id]).map((one) => data.cells[one])) {
    if (cell.of) body.append(element("h4", each.dataset));
    body.append(records(each));
  }
  const setting = element("details");
  setting.append(element("summary", "Setting"), element("pre", data.settings[cell.setting]));
  body.append(setting);
  tip.hidden = true;
  if (!dialog.open) dialog.showModal();
}

function records(cell) {
  const table = element("table");
  const head = table.createTHead().insertRow();
  data.fields.forEach((name) => head.append(element("th", name, { className: "l", scope: "col" })));
  const rows = table.createTBody();
  for (const run of cell.runs) {
    const row = rows.insertRow();
    run.values.forEach((value) => row.append(element("td", value, { className: "l" })));
    row.cells[1].replaceChildren(element("a", row.cells[1].textContent, { href: run.href }));
    if (run.reason) row.cells[2].append(element("span", ": " + run.reason, { className: "lost" }));
  }
  const wide = element("div", null, { className: "wide" });
  wide.append(table);
  return wide;
}

function hover(event) {
  const link = event.target.closest && event.target.closest("a.cell");
  const cell = link && data.cells[link.dataset.cell];
  const pool = cell ? cell.pool : undefined;
  for (const mark of document.querySelectorAll(".chart [data-of]"))
    mark.classList.toggle("hot", pool !== undefined && mark.dataset.of === pool);
  if (!cell || dialog.open) { tip.hidden = true; return; }
  tip.replaceChildren(element("strong", cell.title), ...cell.lines.map((line) => element("p", line)));
  tip.hidden = false;
  const box = link.getBoundingClientRect();
  tip.style.left = Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8)) + "px";
  const below = box.bottom + 6;
  tip.style.top = (below + tip.offsetHeight > innerHeight ? box.top - tip.offsetHeight - 6 : below) + "px";
}

// ----------------------------------------------------------------------------------------------------------- keyboard

// The tab key goes to one number of a table or chart, the arrow keys from there to its neighbours.
function links(place) {
  return [...place.querySelectorAll("a.cell")].filter((link) => !link.closest("[hidden]"));
}

function enter(place, link) {
  const found = links(place);
  const at = link || found.find((each) => each.tabIndex === 0 && each.dataset.at) || found[0];
  for (const each of place.querySelectorAll("a.cell")) { each.setAttribute("tabindex", each === at ? "0" : "-1"); delete each.dataset.at; }
  if (at) at.dataset.at = "1";
}

function neighbour(link, key) {
  const table = link.closest("table");
  if (!table) {
    const all = links(link.closest("svg"));
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[key];
    return all[all.indexOf(link) + step];
  }
  const cell = link.closest("td");
  const rows = [...table.querySelectorAll("tbody tr")].filter((row) => !row.hidden && row.querySelector("a.cell"));
  if (key === "ArrowLeft" || key === "ArrowRight") {
    const all = links(cell.parentNode);
    return all[all.indexOf(link) + (key === "ArrowRight" ? 1 : -1)];
  }
  const step = key === "ArrowDown" ? 1 : -1;
  for (let i = rows.indexOf(cell.parentNode) + step; rows[i]; i += step) {
    const found = rows[i].cells[cell.cellIndex] && rows[i].cells[cell.cellIndex].querySelector("a.cell");
    if (found) return found;
  }
  return undefined;
}

document.addEventListener("keydown", (event) => {
  const link = event.key.startsWith("Arrow") && event.target.closest && event.target.closest("a.cell");
  const next = link && neighbour(link, event.key);
  if (link) event.preventDefault();
  if (!next) return;
  enter(next.closest("table, svg"), next);
  next.focus();
});

// ------------------------------------------------------------------------------------------------------------- events

const THEMES = ["", "light", "dark"];
const theme = document.getElementById("theme");

function dress(name) {
  document.documentElement.dataset.theme = name;
  theme.setAttribute("aria-label", `colours: ${name || "as the system"}`);
  theme.title = theme.getAttribute("aria-label");
  try { localStorage.setItem("poolbench-theme", name); } catch { /* a page from file:// may not be let */ }
}

theme.addEventListener("click", () => dress(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme || "") + 1) % THEMES.length]));
try { dress(localStorage.getItem("poolbench-theme") || ""); } catch { dress(""); }

form.addEventListener("input", readForm);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => {
  for (const key of Object.keys(state)) delete state[key];
  setTimeout(writeAddress);
});
document.addEventListener("click", (event) => {
  const head = event.target.closest("th[data-key]");
  const link = event.target.closest("a.cell");
  if (head) {
    const key = head.dataset.key;
    const first = head.dataset.first + key;
    const second = first.startsWith("-") ? key : "-" + key;
    state.sort = state.sort === first ? second : first;
    writeAddress();
  } else if (link && link.dataset.cell) {
    event.preventDefault();
    state.cell = link.dataset.cell;
    writeAddress();
  }
});
document.addEventListener("pointerover", hover);
document.addEventListener("focusin", hover);
document.getElementById("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => { if (state.cell) { delete state.cell; writeAddress(); } });
window.addEventListener("hashchange", readAddress);
let width = innerWidth;
window.addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; show(); } });
readAddress();
