// Draws the plots from the page's own data, in the page's own colours.
const root = document.documentElement;
const page = JSON.parse(document.getElementById("page-data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 640px)");
const touch = matchMedia("(pointer: coarse)");
const plots = [];
const PAPER = 690; // CSS pixels between the margins of an A4 or letter page
const PAPER_HEIGHT = 300; // CSS pixels of a plot at most, so that a page takes two with their words: .plot in page.css
let printing = false;

// "var(--ink)" becomes the colour that it is now; everything else stays what it is.
function resolved(value, style) {
  if (typeof value === "string") {
    const name = /^var\((--[a-z0-9-]+)\)$/.exec(value);
    return name ? style.getPropertyValue(name[1]).trim() || value : value;
  }
  if (Array.isArray(value)) return value.map((item) => resolved(item, style));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolved(item, style)]));
}

// The axis with its title broken into lines of at most `room` CSS pixels; plotly.js would let its ends leave the plot.
const pen = document.createElement("canvas").getContext("2d");
function withTitle(axis, room, font) {
  if (!axis.title?.text) return axis;
  pen.font = `${Math.round(1.2 * font.size)}px ${font.family}`; // plotly.js's size of a title
  const lines = [];
  for (const word of axis.title.text.split(" ")) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && pen.measureText(longer).width <= room) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return { ...axis, title: { ...axis.title, text: lines.join("<br>") } };
}

function layoutOf(plot, view, style) {
  const ink = style.getPropertyValue("--ink").trim();
  const lines = {
    gridcolor: style.getPropertyValue("--grid").trim(),
    zerolinecolor: style.getPropertyValue("--grid").trim(),
    linecolor: style.getPropertyValue("--faint").trim(),
    automargin: true,
    ticks: "",
  };
  const small = narrow.matches;
  const font = { family: getComputedStyle(document.body).fontFamily, size: small ? 12 : 13, color: ink };
  const width = !printing ? undefined : plot.at.closest(".grid") ? PAPER / 2 - 12 : PAPER;
  const height = printing ? Math.min(PAPER_HEIGHT, plot.at.clientHeight) : undefined;
  const room = [0.6 * (width ?? (plot.at.clientWidth || 400)), 0.7 * (height ?? (plot.at.clientHeight || 240))]; // the rest is for the other axis
  const asked = plot.chosen ? { ...view.layout, ...chosenLayout(plot) } : view.layout;
  const layout = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font,
    margin: { l: small ? 8 : 16, r: small ? 8 : 16, t: 26, b: 12 },
    showlegend: false,
    autosize: true,
    width,
    height,
    dragmode: touch.matches ? false : "zoom", // a finger on a plot scrolls the page
    hoverlabel: {
      bgcolor: style.getPropertyValue("--panel").trim(),
      bordercolor: style.getPropertyValue("--faint").trim(),
      font: { color: ink, size: 12 },
      align: "left",
    },
    ...resolved(asked, style),
    xaxis: withTitle({ ...lines, ...resolved(asked.xaxis || {}, style) }, room[0], font),
    yaxis: withTitle({ ...lines, ...resolved(asked.yaxis || {}, style) }, room[1], font),
  };
  if (plot.key === "curves" && small) {
    // names of rungs that are close would lie over each other; the words below the plot say where they are
    layout.annotations = layout.annotations.map((note) => ({ ...note, text: note.text.replace("rung ", "") }));
  }
  if (plot.key !== "parallel") return layout;
  return { ...layout, dragmode: touch.matches ? false : "select", shapes: [...layout.shapes, ...brushShapes(style)] };
}

function tracesOf(plot, style) {
  const view = plot.told.views[plot.view];
  const traces = plot.told.data[view.data].map((given, index) => {
    const trace = resolved(given, style);
    if (plot.chosen) chosenValues(plot, trace, index);
    if (!trace.type) trace.type = "scatter";
    if (trace.meta && trace.meta.trials) {
      trace.text = trace.meta.trials.map((trial) => (trial === null ? "" : page.hover[trial] || ""));
      if (!trace.hovertemplate) trace.hovertemplate = "<b>%{y}</b> at %{x}<br>%{text}<extra></extra>";
      if (plot.key === "parallel") trace.hovertemplate = "%{text}<extra></extra>";
      if (trace.type === "bar") trace.textposition = "none"; // it is for the pointer
    }
    if (trace.legendgroup && plot.hidden.has(trace.legendgroup)) trace.visible = false;
    trace.showlegend = false;
    return trace;
  });
  return plot.key === "parallel" ? brushedTraces(plot, traces) : traces;
}

function draw(plot) {
  const style = getComputedStyle(root);
  const view = plot.told.views[plot.view];
  const config = { displaylogo: false, typesetMath: false, responsive: true, displayModeBar: touch.matches ? false : "hover" };
  if (printing) config.responsive = false;
  config.modeBarButtonsToRemove = ["select2d", "lasso2d", "autoScale2d"];
  legend(plot, style);
  return Plotly.react(plot.at, tracesOf(plot, style), layoutOf(plot, view, style), config);
}

// The legend is buttons: it wraps, it is read aloud, and the keyboard reaches it.
function legend(plot, style) {
  const place = plot.figure.querySelector(".legend");
  const groups = new Map();
  for (const trace of plot.told.data[plot.told.views[plot.view].data]) {
    if (trace.legendgroup && trace.name && !groups.has(trace.legendgroup)) groups.set(trace.legendgroup, trace);
  }
  place.replaceChildren();
  if (groups.size < 2) return;
  for (const [group, trace] of groups) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", String(!plot.hidden.has(group)));
    button.append(swatch(trace, style), plainText(trace.name));
    button.addEventListener("click", () => {
      if (!plot.hidden.delete(group)) plot.hidden.add(group);
      draw(plot).then(() => place.children[[...groups.keys()].indexOf(group)].focus());
    });
    place.append(button);
  }
}

// Names are escaped for Plotly, which reads entities; a text node does not.
function plainText(name) {
  return document.createTextNode(name.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&"));
}

const SHAPES = {
  circle: "M3 8a5 5 0 1 0 10 0a5 5 0 1 0 -10 0",
  diamond: "M8 2l6 6l-6 6l-6 -6z",
  square: "M3 3h10v10h-10z",
  "triangle-up": "M8 2l6 11h-12z",
  "triangle-down": "M8 14l6 -11h-12z",
  cross: "M6 2h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
  star: "M8 1l2 5h5l-4 3l2 6l-5 -4l-5 4l2 -6l-4 -3h5z",
  pentagon: "M8 1l7 5l-3 8h-8l-3 -8z",
  line: "M1 7h14v2.5h-14z",
  dot: "M1 7h4v2.5h-4zM6.5 7h4v2.5h-4zM12 7h3v2.5h-3z",
};

function swatch(trace, style) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const lined = trace.mode && trace.mode.startsWith("lines");
  const shape = lined ? (trace.line.dash ? "dot" : "line") : (trace.marker && trace.marker.symbol) || "square";
  const paint = lined ? trace.line.color : trace.marker.color;
  for (const [name, value] of Object.entries({ width: 16, height: 16, viewBox: "0 0 16 16", "aria-hidden": "true" })) {
    svg.setAttribute(name, value);
  }
  path.setAttribute("d", SHAPES[shape] || SHAPES.circle);
  path.setAttribute("fill", resolved(Array.isArray(paint) ? "var(--ink)" : paint, style)); // a scale has no one colour
  svg.append(path);
  return svg;
}

function switches(plot) {
  const buttons = plot.figure.querySelectorAll(".switch button");
  const press = () => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(Number(button.dataset.view) === plot.view));
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      plot.view = Number(button.dataset.view);
      press();
      draw(plot);
    });
  }
  press();
}

// Makes Plotly of the packed text in the page, once.
function library() {
  if (window.Plotly) return;
  const packed = atob(document.getElementById("plotly").textContent);
  const script = document.createElement("script");
  script.textContent = gunzip(Uint8Array.from(packed, (letter) => letter.charCodeAt(0)));
  document.head.append(script); // runs at once; the page's policy knows its SHA-256
}
