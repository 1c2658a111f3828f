// Sorts, filters and downloads the tables, and draws the curves; everything it needs stands in the page.
"use strict";

const CURVES = JSON.parse(document.getElementById("curves").textContent);
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a63d2", "#a07a35"];
const DASHES = [[], [7, 3], [2, 2], [8, 3, 2, 3]];
const COLLATOR = new Intl.Collator("en", { numeric: true });
const dark = window.matchMedia("(prefers-color-scheme: dark)");

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const short = (value) => new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(value);
const rowsOf = (table) => [...table.tBodies[0].rows];
const columnOf = (table, name) => [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === name);

/* Tables */

function compare(a, b, column) {
  const [x, y] = [a, b].map((row) => row.cells[column]);
  const [p, q] = [x, y].map((cell) => (cell.dataset.value === undefined ? null : Number(cell.dataset.value)));
  if (p !== null && q !== null) return p - q;
  return COLLATOR.compare(x.textContent, y.textContent);
}

function missing(row, column) {
  const cell = row.cells[column];
  if (cell.classList.contains("number")) return cell.dataset.value === undefined; // says why there is no number
  return ["", "–"].includes(cell.textContent.trim()) && !cell.firstElementChild;
}

function sortBy(table, column) {
  const head = table.tHead.rows[0].cells;
  const down = head[column].getAttribute("aria-sort") === "ascending";
  [...head].forEach((cell) => cell.removeAttribute("aria-sort"));
  head[column].setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = rowsOf(table).sort((a, b) => {
    const [m, n] = [missing(a, column), missing(b, column)]; // what is missing stays at the end either way
    if (m || n) return m - n;
    return (down ? -1 : 1) * compare(a, b, column);
  });
  table.tBodies[0].append(...rows);
}

function filterTable(article, network, text) {
  const table = article.querySelector("table");
  const [where, method] = [columnOf(table, "Network"), columnOf(table, "Method")];
  table.classList.toggle("single", where === 0 && Boolean(network)); // one network needs no column for its name
  let shown = 0;
  for (const row of rowsOf(table)) {
    const fits = where < 0 || !network || row.cells[where].textContent === network;
    row.hidden = !(fits && row.cells[method].textContent.toLowerCase().includes(text));
    shown += !row.hidden;
  }
  const filled = rowsOf(table).filter((row) => !row.hidden);
  [...table.tHead.rows[0].cells].forEach((head, column) => { // networks have different numbers of sites
    const empty = filled.length > 0 && filled.every((row) => row.cells[column].childNodes.length === 0);
    [head, ...rowsOf(table).map((row) => row.cells[column])].forEach((cell) => cell.classList.toggle("empty", empty));
  });
  article.querySelector(".count").textContent = `${shown} of ${table.tBodies[0].rows.length} rows`;
}

function quote(text) {
  const safe = /^[=@\t\r]|^[+-](?![\d.])/.test(text) ? `'${text}` : text; // a spreadsheet runs no text as a formula
  return `"${safe.replaceAll('"', '""')}"`;
}

function csvOf(table) {
  const rows = [table.tHead.rows[0], ...rowsOf(table).filter((row) => !row.hidden)];
  return rows.map((row) => [...row.cells].filter((cell) => !cell.classList.contains("empty")).map((cell) => quote(cell.textContent.trim())).join(",")).join("\r\n") + "\r\n";
}

function download(article) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csvOf(article.querySelector("table"))], { type: "text/csv" }));
  link.download = `${article.dataset.name}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/* Curves */

function leading(section, network) {
  const table = section.querySelector('[data-name$="-methods"] table');
  const [where, method] = [columnOf(table, "Network"), columnOf(table, "Method")];
  const rows = rowsOf(table).filter((row) => !row.hidden && row.cells[where].textContent === network);
  return [...new Set(rows.map((row) => row.cells[method].textContent))];
}

function dataset(label, points, axis, rank) {
  const front = rank >= 0 && rank < COLOURS.length;
  return {
    label,
    data: points.map((p) => ({ x: p[axis], y: p[1], step: p[0], events: p[2] })).filter((p) => p.x > 0),
    borderColor: front ? COLOURS[rank] : css("--mute"),
    backgroundColor: front ? COLOURS[rank] : css("--mute"),
    borderDash: front ? DASHES[rank % DASHES.length] : [],
    borderWidth: front ? 2 : 1,
    order: front ? rank : 100,
    pointRadius: 0,
    pointHitRadius: 8,
    pointHoverRadius: 4,
    front,
  };
}

function tooltip(item) {
  if (item.raw.step === undefined) return `ANN: ${item.parsed.y} %`;
  return `${item.dataset.label}: ${item.parsed.y} % at step ${item.raw.step}, ${short(item.raw.events)} events`;
}

const DECADES = 4; // of synaptic events that are shown: fewer never gave an answer better than a guess

function axes(axis, most) {
  const [ink, line] = [css("--soft"), css("--line")];
  const title = (text) => ({ display: true, text, color: ink });
  const tick = (value) => (axis === 0 ? (Number.isInteger(Math.log2(value)) ? value : "") : short(value));
  return {
    x: {
      type: "logarithmic",
      min: axis === 0 ? undefined : most / 10 ** DECADES,
      title: title(axis === 0 ? "time step" : "synaptic events of one inference"),
      grid: { color: line },
      ticks: { color: ink, callback: tick, maxRotation: 0, autoSkipPadding: 12 },
      afterBuildTicks: (scale) => {
        if (axis !== 0) return;
        scale.ticks = [...Array(24).keys()].map((k) => ({ value: 2 ** k })).filter((t) => t.value >= scale.min && t.value <= scale.max);
      },
    },
    y: { title: title("right answers, %"), grid: { color: line }, ticks: { color: ink } },
  };
}

function draw(section, chart) {
  const group = CURVES[section.dataset.group];
  const network = section.querySelector(".network").value || Object.keys(group)[0];
  const axis = Number(section.querySelector(".axis").value);
  const { methods, ann } = group[network];
  const order = leading(section, network).filter((label) => label in methods);
  const sets = Object.entries(methods).map(([label, points]) => dataset(label, points, axis, order.indexOf(label)));
  const all = sets.flatMap((set) => set.data.map((p) => p.x));
  const ends = all.length ? [Math.min(...all), Math.max(...all)] : [1, 2];
  sets.push({
    label: "ANN", data: ends.map((x) => ({ x, y: ann })), borderColor: css("--ink"), backgroundColor: css("--ink"),
    borderDash: [4, 4], borderWidth: 1, pointRadius: 0, order: 50, front: true,
  });
  chart?.destroy();
  return new Chart(section.querySelector("canvas"), {
    type: "line",
    data: { datasets: sets.sort((a, b) => a.order - b.order) },
    options: {
      animation: false,
      maintainAspectRatio: false,
      interaction: { mode: "nearest", intersect: false, axis: "xy" },
      scales: axes(axis, ends[1]),
      plugins: {
        legend: { position: "bottom", labels: { color: css("--ink"), boxWidth: 26, boxHeight: 1, filter: (item, data) => data.datasets[item.datasetIndex].front } },
        tooltip: { callbacks: { title: () => "", label: tooltip } },
      },
    },
  });
}

/* Sections */

function start(section) {
  const articles = [...section.querySelectorAll(".table")];
  let chart = null;
  const update = () => {
    const network = section.querySelector(".network").value;
    const text = section.querySelector(".filter").value.trim().toLowerCase();
    articles.forEach((article) => filterTable(article, network, text));
    section.querySelectorAll(".networks li").forEach((item) => { item.hidden = Boolean(network) && item.dataset.network !== network; });
    chart = draw(section, chart);
  };
  for (const article of articles) {
    const table = article.querySelector("table");
    article.querySelector(".csv").addEventListener("click", () => download(article));
    const method = columnOf(table, "Method"); // stays in sight when the table is scrolled sideways
    [...table.rows].forEach((row) => row.cells[method].classList.add("method"));
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      if (rowsOf(table).some((row) => row.cells[column].dataset.value !== undefined)) {
        [cell, ...rowsOf(table).map((row) => row.cells[column])].forEach((one) => one.classList.add("number"));
      }
      cell.firstElementChild.addEventListener("click", () => { sortBy(table, column); chart = draw(section, chart); });
    });
  }
  section.querySelectorAll("select, input").forEach((control) => control.addEventListener("input", update));
  dark.addEventListener("change", update);
  update();
}

document.querySelectorAll("main > section").forEach(start);
