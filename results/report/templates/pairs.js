// Two hyperparameters of the reader's choice: the selects of a figure choose which values its dots are drawn at.
function choosable(plot) {
  if (!plot.told.axes) return;
  const names = Object.keys(plot.told.axes);
  plot.chosen = { x: names[0], y: names[1] };
  for (const select of plot.figure.querySelectorAll("select[data-axis]")) {
    if (names.includes(plot.kept?.[select.dataset.axis])) select.value = plot.kept[select.dataset.axis];
  }
  const told = document.createElement("p");
  told.setAttribute("aria-live", "polite");
  plot.figure.querySelector("figcaption").append(told);
  const count = () => {
    const { x, y } = Object.fromEntries(Object.entries(plot.chosen).map(([side, name]) => [side, plot.told.axes[name].values.flat()]));
    const missing = x.filter((value, index) => value === null || y[index] === null).length;
    const names = [...new Set(Object.values(plot.chosen))].join(" and ");
    told.textContent = `Shown: ${x.length - missing} of ${x.length} trials` + (missing ? `; the others did not search ${names}.` : ".");
  };
  for (const select of plot.figure.querySelectorAll("select[data-axis]")) {
    plot.chosen[select.dataset.axis] = select.value; // a browser may keep a choice when the page is loaded again
    select.addEventListener("change", () => {
      plot.chosen[select.dataset.axis] = select.value;
      count();
      draw(plot);
    });
  }
  count();
}

function chosenValues(plot, trace, index) {
  for (const [side, name] of Object.entries(plot.chosen)) trace[side] = plot.told.axes[name].values[index];
}

function chosenLayout(plot) {
  const axes = plot.told.axes;
  return { xaxis: axes[plot.chosen.x].layout, yaxis: axes[plot.chosen.y].layout };
}
