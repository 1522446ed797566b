// Brushing on parallel coordinates: a part of an axis that is dragged over keeps the trials that pass there.
const brushes = []; // {axis, low, high}: a trial passes all of them

// The trials of the plot that pass every brush, and of how many.
function brushed(plot) {
  const passing = new Map();
  for (const { x, y, meta } of plot.told.data[0]) {
    meta.trials.forEach((trial, index) => {
      if (trial === null) return;
      const inside = brushes.every(({ axis, low, high }) => x[index] !== axis || (y[index] >= low && y[index] <= high));
      passing.set(trial, (passing.get(trial) ?? true) && inside);
    });
  }
  return [[...passing].filter(([, passes]) => passes).map(([trial]) => trial), passing.size];
}

// Each trace in two: the trials that pass in their colour, the others in grey beneath them.
function brushedTraces(plot, traces) {
  if (!brushes.length) return traces;
  const kept = new Set(brushed(plot)[0]);
  const grey = getComputedStyle(root).getPropertyValue("--grid").trim();
  const part = (trace, passes) => {
    const given = plot.told.data[0].find((other) => other.legendgroup === trace.legendgroup);
    const inside = given.meta.trials.map((trial, index) => {
      const owner = trial ?? given.meta.trials[index - 1]; // the gap after a line belongs to it
      return kept.has(owner) === passes;
    });
    const pick = (values) => values.filter((_, index) => inside[index]);
    const picked = { x: pick(trace.x), y: pick(trace.y), text: pick(trace.text), meta: { trials: pick(given.meta.trials) } };
    if (passes) return { ...trace, ...picked };
    return { ...trace, ...picked, line: { color: grey, width: 1 }, marker: { color: grey, size: 3 }, hoverinfo: "skip", hovertemplate: null };
  };
  return [...traces.map((trace) => part(trace, false)), ...traces.map((trace) => part(trace, true))];
}

function brushShapes(style) {
  const accent = style.getPropertyValue("--accent").trim();
  return brushes.map(({ axis, low, high }) => ({
    type: "rect", x0: axis - 0.07, x1: axis + 0.07, y0: low, y1: high,
    line: { color: accent, width: 2 }, fillcolor: accent, opacity: 0.35,
  }));
}

function brushable(plot) {
  if (plot.key !== "parallel") return;
  const told = document.createElement("p");
  told.className = "brushed";
  told.setAttribute("aria-live", "polite");
  plot.figure.querySelector("figcaption").before(told);
  const renew = () => {
    const [passing, all] = brushed(plot);
    told.replaceChildren();
    if (brushes.length) {
      told.append(`${passing.length} of ${all} trials pass: `);
      for (const trial of passing.slice(0, 30)) told.append(openButton(trial), " ");
      if (passing.length > 30) told.append(`and ${passing.length - 30} more `);
      const all_again = document.createElement("button");
      all_again.type = "button";
      all_again.textContent = "keep all";
      all_again.addEventListener("click", clear);
      told.append(all_again);
    }
    return draw(plot);
  };
  const clear = () => {
    brushes.length = 0;
    return renew();
  };
  plot.at.on("plotly_selected", (event) => {
    if (!event || !event.range) return;
    const [left, right] = event.range.x;
    const [low, high] = event.range.y;
    const last = Math.max(...plot.told.data[0].flatMap((trace) => trace.x.filter((x) => x !== null)));
    for (let axis = Math.max(0, Math.ceil(left)); axis <= Math.min(last, Math.floor(right)); axis += 1) {
      const before = brushes.findIndex((brush) => brush.axis === axis);
      if (before >= 0) brushes.splice(before, 1);
      brushes.push({ axis, low, high });
    }
    renew();
  });
  plot.at.on("plotly_deselect", clear);
  if (brushes.length) renew(); // kept while the page was loaded again
}
