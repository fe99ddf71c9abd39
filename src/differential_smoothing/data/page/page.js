"use strict";
// Everything that came from a model or a file reaches the document through textContent, and in no other way.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "onclick") node.addEventListener("click", value);
    else node.setAttribute(name, value);
  }
  for (const child of children) node.append(child);
  return node;
}

function isolated(text) {
  const node = make("bdi");
  node.textContent = text;
  return node;
}

// ---- theme ----------------------------------------------------------------------------------------------------------

const root = document.documentElement;
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
function nameTheme() { $("theme").textContent = dark() ? "Light theme" : "Dark theme"; }
$("theme").addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; nameTheme(); });
prefersDark.addEventListener("change", nameTheme);
nameTheme();

// ---- files ----------------------------------------------------------------------------------------------------------

function save(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

// A spreadsheet runs a text that begins like a formula; an apostrophe before it makes it text. Numbers stay as they are.
function field(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "string") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? "'" + value : value;
  return /[",\r\n']/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}

const tables = {
  ...data.tables,
  get problems() {
    const p = data.problems;
    const columns = ["prompt_id", "model", "n", "c", "distinct"];
    return { columns, rows: p.id.flatMap((id, i) => data.models.map((m, j) => [id, m, p.n[j][i], p.c[j][i], p.distinct[j][i]])) };
  },
  get completions() {
    const columns = ["prompt_id", "model", "sample", "seed", "correct", "num_tokens", "logp", "completion", "characters"];
    const rows = Object.entries(data.completions).flatMap(([i, problem]) => problem.samples.flatMap((samples, j) =>
      samples.map(([sample, seed, correct, ...rest]) =>
        [data.problems.id[i], data.models[j], sample, seed, correct === null ? null : correct === 1, ...rest])));
    return { columns, rows };
  },
};

for (const button of document.querySelectorAll("[data-csv]")) {
  button.addEventListener("click", () => {
    const { columns, rows } = tables[button.dataset.csv];
    save(button.dataset.csv + ".csv", [columns, ...rows].map((row) => row.map(field).join(",")).join("\r\n") + "\r\n", "text/csv");
  });
}

for (const button of document.querySelectorAll("[data-svg]")) {
  button.addEventListener("click", () => {
    const picture = button.closest("figure").querySelector("svg").cloneNode(true);
    for (const node of picture.querySelectorAll(".hit, .guide")) node.remove();
    picture.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    const colours = getComputedStyle(root);
    const text = new XMLSerializer().serializeToString(picture).replace(/var\((--\w+)\)/g, (_, name) => colours.getPropertyValue(name).trim());
    save(button.dataset.svg + ".svg", text, "image/svg+xml");
  });
}

// ---- figures: values under the pointer, or under the arrow keys ------------------------------------------------------

const tip = $("tip");
let shownAt = null;  // the figure that shows a value: how to leave it, and how to follow it when the page scrolls
for (const picture of document.querySelectorAll("figure svg")) {
  const hits = [...picture.querySelectorAll(".hit")];
  let at = -1;
  let guide = null;
  const leave = () => {
    if (hits[at]) hits[at].classList.remove("on");
    if (guide) guide.remove();
    guide = null;
    shownAt = null;
    tip.hidden = true;
  };
  const follow = () => {
    const box = hits[at].getBoundingClientRect();
    const middle = guide ? guide.getBoundingClientRect().left : box.left + box.width / 2;
    const beside = guide ? middle + 12 : middle - tip.offsetWidth / 2;
    const fits = beside + tip.offsetWidth < innerWidth - 6 ? beside : guide ? middle - 12 - tip.offsetWidth : innerWidth - 6 - tip.offsetWidth;
    const above = guide ? box.top + box.height / 2 : box.top - tip.offsetHeight - 8;
    tip.style.left = Math.max(6, fits) + "px";
    tip.style.top = Math.max(6, Math.min(above, innerHeight - tip.offsetHeight - 6)) + "px";
  };
  const show = (next) => {
    leave();
    at = next;
    const hit = hits[at];
    hit.classList.add("on");
    if (hit.dataset.guide) {
      guide = document.createElementNS("http://www.w3.org/2000/svg", "line");
      const top = Number(hit.getAttribute("y"));
      const ends = { x1: hit.dataset.guide, x2: hit.dataset.guide, y1: top, y2: top + Number(hit.getAttribute("height")), class: "guide" };
      for (const [name, value] of Object.entries(ends)) guide.setAttribute(name, value);
      hit.before(guide);
    }
    tip.textContent = hit.dataset.says;
    tip.hidden = false;
    shownAt = { picture, leave, follow };
    follow();
  };
  hits.forEach((hit, i) => hit.addEventListener("pointerenter", () => show(i)));
  // A finger that is lifted has left, but has not read yet.
  picture.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") leave(); });
  picture.addEventListener("blur", () => { leave(); at = -1; });
  picture.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") leave();
    if (!step) return;
    event.preventDefault();
    show(at < 0 ? (step > 0 ? 0 : hits.length - 1) : (at + step + hits.length) % hits.length);
    $("spoken").textContent = hits[at].dataset.says;
  });
}
addEventListener("scroll", () => { if (shownAt) shownAt.follow(); }, { passive: true });
addEventListener("pointerdown", (event) => { if (shownAt && !shownAt.picture.contains(event.target)) shownAt.leave(); });

// ---- problems: sorted and filtered as numbers, a page of rows at a time ------------------------------------------------

const PAGE = 25;
const { id: ids, n, c, distinct, given_up: givenUp } = data.problems;
const rate = (j, i) => (n[j][i] > 0 ? c[j][i] / n[j][i] : null);
const spread = (i) => {
  const rates = data.models.map((_, j) => rate(j, i)).filter((value) => value !== null);
  return rates.length > 1 ? Math.max(...rates) - Math.min(...rates) : null;
};
const natural = new Intl.Collator("en", { numeric: true });
const columns = [{ name: "Problem", value: (i) => ids[i] }];
if (data.models.length > 1) columns.push({ name: "Spread", value: spread, show: (i) => percent(spread(i)), title: "largest minus smallest share of correct samples, in points" });
data.models.forEach((model, j) => {
  columns.push({ name: "Correct", model: j, value: (i) => rate(j, i), show: (i) => (n[j][i] > 0 ? `${c[j][i]}/${n[j][i]}` : "–") });
  columns.push({ name: "Distinct", model: j, value: (i) => distinct[j][i], show: (i) => (distinct[j][i] === null ? "–" : Number(distinct[j][i].toFixed(2)).toString()) });
});
if (data.diagnosis) columns.push({ name: "Given up", value: (i) => (givenUp[i] === null ? null : Number(givenUp[i])), show: (i) => (givenUp[i] ? "yes" : "–") });
function percent(value) { return value === null ? "–" : (100 * value).toFixed(1); }

const filters = [["all problems", () => true]];
const solves = (j, i) => c[j][i] > 0;
const tried = (j, i) => n[j][i] > 0;
if (data.models.length > 1) {
  const r = data.reference;
  data.models.forEach((model, j) => {
    if (j === r) return;
    filters.push([`${data.models[r]} solves, ${model} never`, (i) => solves(r, i) && tried(j, i) && !solves(j, i)]);
    filters.push([`${model} solves, ${data.models[r]} never`, (i) => solves(j, i) && tried(r, i) && !solves(r, i)]);
  });
}
filters.push(["solved by every model", (i) => data.models.every((_, j) => solves(j, i))]);
filters.push(["solved by no model", (i) => data.models.every((_, j) => !solves(j, i))]);
filters.push(["with completions in this page", (i) => i in data.completions]);
filters.forEach(([name], number) => {
  const option = make("option", { value: number });
  option.textContent = name;
  $("which").append(option);
});

let order = ids.map((_, i) => i);
let shown = order;
let page = 0;
let sorted = columns.length > 2 && columns[1].name === "Spread" ? 1 : 0;
let direction = sorted ? -1 : 1;
let chosen = null;

function arrange() {
  const { value } = columns[sorted];
  const keys = ids.map((_, i) => value(i));
  order.sort((a, b) => {
    const [x, y] = [keys[a], keys[b]];
    if (x === null || y === null) return (x === null) - (y === null) || a - b;  // what is unknown comes last, always
    return direction * (typeof x === "string" ? natural.compare(x, y) : x - y) || a - b;
  });
  select();
}

function select() {
  const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const keep = filters[$("which").value][1];
  shown = order.filter((i) => keep(i) && words.every((word) => ids[i].toLowerCase().includes(word)));
  page = 0;
  draw();
}

const body = $("problem-table").tBodies[0];
function draw() {
  const pages = Math.max(1, Math.ceil(shown.length / PAGE));
  page = Math.min(Math.max(page, 0), pages - 1);
  body.replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE).map((i) => {
    const head = make("th", { scope: "row" });
    if (i in data.completions) {
      const button = make("button", { class: "link", type: "button", onclick: () => { choose(i); $("completions-title").focus(); } }, isolated(ids[i]));
      head.append(button);
    } else head.append(isolated(ids[i]));
    const row = make("tr", i === chosen ? { class: "chosen" } : {}, head);
    for (const column of columns.slice(1)) {
      const cell = make("td", column.name === "Correct" ? { class: "bar" } : {});
      if (column.name === "Correct") {
        cell.style.setProperty("--p", column.value(i) || 0);
        cell.style.setProperty("--bar", `var(--${data.roles[column.model]})`);
      }
      cell.textContent = column.show(i);
      row.append(cell);
    }
    return row;
  }));
  if (!shown.length) body.append(make("tr", {}, make("td", { colspan: columns.length }, "No problem fits. Change the search or the choice.")));
  $("count").textContent = `${shown.length} of ${ids.length} problems`;
  $("page").textContent = `Page ${page + 1} of ${pages}`;
  $("previous").disabled = $("first").disabled = page === 0;
  $("next").disabled = $("last").disabled = page === pages - 1;
  heads.forEach((head, k) => head.setAttribute("aria-sort", k === sorted ? (direction > 0 ? "ascending" : "descending") : "none"));
}

const heads = columns.map((column, k) => {
  const button = make("button", { type: "button", onclick: () => {
    // Words begin with a, numbers with the largest; the same heading again turns the order round.
    direction = k === sorted ? -direction : k ? -1 : 1;
    sorted = k;
    arrange();
  } });
  button.textContent = column.name;
  if (column.title) button.title = column.title;
  if (column.model !== undefined) button.setAttribute("aria-label", `${column.name}, ${data.models[column.model]}`);
  return make("th", { scope: "col", "aria-sort": "none" }, button);
});
const groups = make("tr", {}, make("td", { colspan: heads.length - 2 * data.models.length - (data.diagnosis ? 1 : 0) }));
data.models.forEach((model) => groups.append(make("th", { colspan: 2, scope: "colgroup", class: "group" }, isolated(model))));
if (data.diagnosis) groups.append(make("td"));
$("problem-table").tHead.append(groups, make("tr", {}, ...heads));

$("find").addEventListener("input", select);
$("which").addEventListener("change", select);
const turn = (to) => () => { page = to(); draw(); };
$("first").addEventListener("click", turn(() => 0));
$("previous").addEventListener("click", turn(() => page - 1));
$("next").addEventListener("click", turn(() => page + 1));
$("last").addEventListener("click", turn(() => Infinity));

// ---- completions ------------------------------------------------------------------------------------------------------

const FIRST = 600;
const MORE = 50000;

// A text in pieces, the first 600 characters and then 50,000 at a time, each a block of its own: laid out once, it is left
// alone when the next one comes, so that a megabyte does not stop the page.
function passage(text, length) {
  const box = make("pre", { dir: "auto", tabindex: 0 });
  const parts = [box];
  let end = 0;
  const grow = (by) => {
    let next = Math.min(end + by, text.length);
    if (next < text.length && /[\ud800-\udbff]/.test(text[next - 1])) next += 1;  // not between the halves of a character
    const line = next < text.length ? text.lastIndexOf("\n", next) + 1 : 0;
    if (line > end + (next - end) / 2) next = line;  // at the end of a line, if there is one
    const piece = make("span", { dir: "auto" });
    piece.textContent = text.slice(end, next);
    box.append(piece);
    end = next;
  };
  grow(FIRST);
  if (text.length === 0) box.append(make("small", {}, "(empty)"));
  if (end < text.length) {
    const button = make("button", { class: "quiet", type: "button", onclick: () => {
      grow(MORE);
      say();
      if (end === text.length) { button.remove(); box.focus(); }
    } });
    const say = () => { button.textContent = `Show more (${(text.length - end).toLocaleString("en")} characters)`; };
    say();
    parts.push(button);
  }
  if (length > [...text].length) parts.push(make("p", { class: "note" }, `Cut: the page holds the first ${[...text].length.toLocaleString("en")} of ${length.toLocaleString("en")} characters.`));
  return parts;
}

function card([sample, seed, correct, tokens, logp, text, length]) {
  const verdict = correct === null ? ["", "? unscored"] : correct ? ["right", "✓ correct"] : ["wrong", "✗ incorrect"];
  const facts = [make("span", { class: verdict[0] }, verdict[1]), make("span", {}, `sample ${sample}` + (data.seeds > 1 ? `, seed ${seed}` : ""))];
  if (tokens !== null) facts.push(make("span", {}, `${tokens} tokens`));
  if (logp !== null) facts.push(make("span", {}, `log p ${logp.toFixed(2).replace("-", "−")}`));
  return make("article", {}, make("header", {}, ...facts), ...passage(text, length));
}

function choose(i) {
  chosen = i;
  const problem = data.completions[i];
  $("completions-title").replaceChildren("Completions: ", isolated(ids[i]));
  $("prompt").replaceChildren(...passage(problem.prompt, problem.prompt_length));
  $("columns").replaceChildren(...data.models.map((model, j) => {
    const facts = make("small");
    facts.textContent = n[j][i] === null ? "not sampled" : `${c[j][i]} of ${n[j][i]} correct` + (distinct[j][i] === null ? "" : `, ${Number(distinct[j][i].toFixed(2))} distinct`);
    const part = make("div", {}, make("h3", {}, isolated(model), facts), ...problem.samples[j].map(card));
    part.style.setProperty("--bar", `var(--${data.roles[j]})`);
    return part;
  }));
  draw();
}

function walk(step) {
  const list = shown.filter((i) => i in data.completions);
  if (list.length) choose(list[(list.indexOf(chosen) + step + list.length) % list.length]);
}
$("problem-before").addEventListener("click", () => walk(-1));
$("problem-after").addEventListener("click", () => walk(1));

$("which").value = "0";
arrange();
const begin = order.find((i) => i in data.completions);
if (begin !== undefined) choose(begin);
