"use strict";
const root = document.documentElement;
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const REFRESH_MS = 5000;

function colour(name) { return getComputedStyle(root).getPropertyValue(name).trim(); }

// Layout in the colours of the theme, on top of what a figure brings along.
function themed(layout) {
  const text = colour("--text"), line = colour("--line");
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, tickcolor: line };
  const annotations = (layout.annotations || []).map((each) => ({ ...each, font: { color: text }, bgcolor: colour("--page") }));
  const shapes = (layout.shapes || []).map((each) => ({ ...each, line: { ...each.line, color: text } }));
  return {
    ...layout, annotations, shapes,
    autosize: true, dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: text, family: "system-ui, sans-serif", size: 13 },
    colorway: colour("--series").split(/\s+/),
    margin: { l: 56, r: 16, t: 16, b: 48 },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    hoverlabel: { bgcolor: colour("--raised"), font: { color: text } },
    xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
  };
}

function inTheme(data) {
  const dark = colour("--page") !== "#ffffff";
  return data.map((each) => each.type === "heatmap" ? { ...each, colorscale: dark ? "Viridis" : "YlGnBu", reversescale: !dark } : each);
}

function draw(figure) {
  const spec = JSON.parse(figure.querySelector("script").textContent);
  const plot = figure.querySelector(".plot");
  plot.hidden = false;
  return Plotly.react(plot, inTheme(spec.data), themed(spec.layout), { displayModeBar: false, responsive: true, displaylogo: false });
}

function figures() { return [...document.querySelectorAll("figure")]; }

// Tables of figures, and long tables, are folded where there are figures to look at.
function prepare(open) {
  for (const details of document.querySelectorAll("#content details")) details.open = open.has(details.id);
  for (const button of document.querySelectorAll("button.save")) {
    button.hidden = false;
    const figure = button.closest("figure");
    // Twice the size of the screen, for print.
    button.addEventListener("click", () => Plotly.downloadImage(figure.querySelector(".plot"), { format: button.dataset.format, scale: 2, filename: figure.id }));
  }
  figures().forEach(draw);
}

function isDark() { return root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches; }

function nameTheme(button) { button.textContent = isDark() ? "Light colours" : "Dark colours"; }

const button = document.getElementById("theme");
button.hidden = false;
button.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  nameTheme(button);
  figures().forEach(draw);
});
prefersDark.addEventListener("change", () => { nameTheme(button); figures().forEach(draw); });
nameTheme(button);
prepare(new Set());

// A live page asks its server for its states, and for the results if their version is another one.
let version = document.body.dataset.live;
const states = {};

async function asked(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}

async function refresh() {
  const news = document.getElementById("news");
  try {
    const now = await (await asked("now")).json();
    for (const [id, html] of Object.entries(now.states))
      if (html !== states[id]) document.getElementById(id).innerHTML = states[id] = html;
    if (now.version !== version) {
      const open = new Set([...document.querySelectorAll("details[open]")].map((each) => each.id));
      document.getElementById("content").innerHTML = await (await asked("content")).text();
      prepare(open);
      version = now.version;
      news.textContent = `Changed at ${new Date().toLocaleTimeString()}.`;
    }
  } catch (error) {
    news.textContent = `No news since the last change: ${error.message || "the server does not answer"}`;
  }
  setTimeout(refresh, REFRESH_MS);
}
if (version) setTimeout(refresh, REFRESH_MS);
