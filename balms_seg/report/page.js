"use strict";
const data = JSON.parse(document.getElementById("data").textContent);

// ---- figures: colours come from the style sheet, so they follow light and dark

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function resolveColors(node) {
  if (typeof node === "string") {
    const found = /^var\((--[\w-]+)\)$/.exec(node);
    return found ? style(found[1]) : node;
  }
  if (Array.isArray(node)) return node.map(resolveColors);
  if (node && typeof node === "object") {
    return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, resolveColors(value)]));
  }
  return node;
}

function figureConfig() {
  // Legends of one chart stand below each other, and in a narrow window of two columns, else they are cut off.
  const columns = document.body.clientWidth < 600 ? { columns: 2 } : {};
  const text = { labelColor: style("--soft"), titleColor: style("--soft"), labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" };
  return {
    background: "transparent",
    font: getComputedStyle(document.body).fontFamily,
    axis: { ...text, gridColor: style("--line"), domainColor: style("--faint"), tickColor: style("--faint") },
    axisXQuantitative: { labelOverlap: "greedy", labelSeparation: 8 },
    legend: { ...text, labelColor: style("--ink"), labelFontSize: 13, symbolSize: 120, layout: { top: { direction: "vertical" } }, ...columns },
    view: { stroke: null },
    text: { color: style("--ink"), fontSize: 12 },
    scale: { bandPaddingInner: 0.25 },
  };
}

async function drawFigure(element) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const options = { actions: false, renderer: "svg", config: figureConfig(), tooltip: { theme: dark ? "dark" : "light" } };
  const previous = element.view;
  const result = await vegaEmbed(element, resolveColors(data.figures[element.dataset.figure]), options);
  if (previous) previous.finalize();
  element.view = result.view;
  element.dataset.drawn = "yes";
}

// Figures are drawn as they come near the window, so that a long page opens at once.
const nearby = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    nearby.unobserve(entry.target);
    drawFigure(entry.target);
  }
}, { rootMargin: "800px" });
const figures = [...document.querySelectorAll("[data-figure]")];
figures.forEach((element) => nearby.observe(element));
// A browser that prints does not wait for drawings: the others are drawn while the page is idle.
const whenIdle = window.requestIdleCallback || ((call) => setTimeout(call, 100));
async function drawRemaining() {
  const element = figures.find((one) => !one.dataset.drawn);
  if (!element) return;
  nearby.unobserve(element);
  await drawFigure(element);
  whenIdle(drawRemaining);
}
window.addEventListener("load", () => whenIdle(drawRemaining));
const redraw = () => figures.filter((element) => element.dataset.drawn).forEach(drawFigure);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

// ---- the table of classes

const table = document.querySelector("#classes table");
if (table) {
  const search = document.querySelector("#class-search");
  const groups = [...document.querySelectorAll("[data-group-filter]")];
  const choice = document.querySelector("#class-run");
  const shown = document.querySelector("#class-count");
  const columns = data.columns;
  const state = { column: columns.findIndex((column) => column.sorted), ascending: true, group: "" };

  const valueOf = (row, column) => {
    const value = row[column.key];
    return Array.isArray(value) && column.perRun ? value[Number(choice ? choice.value : 0)] : value;
  };

  function compare(first, second) {
    const column = columns[state.column];
    const [a, b] = [valueOf(first, column), valueOf(second, column)];
    if (a === null || b === null) return (a === null) - (b === null); // what is unknown stays last
    const order = column.text ? String(a).localeCompare(String(b), undefined, { numeric: true }) : a - b;
    return state.ascending ? order : -order;
  }

  function cell(row, column) {
    const value = valueOf(row, column);
    const element = document.createElement("td");
    element.className = [column.text ? "text" : "", column.style || ""].join(" ");
    element.textContent = value === null ? "n/a" : column.digits === undefined ? value : value.toFixed(column.digits);
    if (column.style === "bar" && value !== null) element.style.setProperty("--share", `${value}%`);
    if (column.key === "group" && value) element.classList.add(value);
    if (column.key === "name") element.title = value;
    return element;
  }

  function fill() {
    const words = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const rows = data.classes.filter((row) => {
      if (state.group && row.group !== state.group) return false;
      const text = columns.filter((column) => column.text).map((column) => valueOf(row, column)).join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    rows.sort(compare);
    table.tBodies[0].replaceChildren(...rows.map((row) => {
      const line = document.createElement("tr");
      line.append(...columns.map((column) => cell(row, column)));
      return line;
    }));
    shown.textContent = `${rows.length} of ${data.classes.length} classes`;
    table.querySelectorAll("thead th").forEach((head, i) => {
      head.setAttribute("aria-sort", i !== state.column ? "none" : state.ascending ? "ascending" : "descending");
    });
  }

  table.querySelectorAll("thead button").forEach((button, i) => button.addEventListener("click", () => {
    state.ascending = state.column === i ? !state.ascending : true;
    state.column = i;
    fill();
  }));
  groups.forEach((button) => button.addEventListener("click", () => {
    state.group = button.dataset.groupFilter;
    groups.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    fill();
  }));
  search.addEventListener("input", fill);
  if (choice) choice.addEventListener("change", fill);
  fill();
}
