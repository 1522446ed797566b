// Draws all plots, and again when the colours, the width or the paper change.
async function drawAll() {
  for (const at of document.querySelectorAll("[data-plot]")) {
    const told = page.plots[at.dataset.plot];
    plots.push({ key: at.dataset.plot, at, told, view: 0, hidden: new Set(), figure: at.closest("figure") });
  }
  if (plots.length) await library();
  for (const plot of plots) {
    plot.at.replaceChildren();
    choosable(plot);
    await draw(plot);
    switches(plot);
    clickable(plot);
    brushable(plot);
    await new Promise((later) => setTimeout(later)); // the page stays alive between two plots
  }
}

const redraw = () => plots.forEach(draw);
dark.addEventListener("change", redraw);
narrow.addEventListener("change", redraw);
addEventListener("beforeprint", () => {
  root.dataset.theme = "light";
  printing = true;
  redraw();
});
addEventListener("afterprint", () => {
  delete root.dataset.theme;
  printing = false;
  redraw();
});

drawAll()
  .then(() => (root.dataset.drawn = String(plots.length)))
  .catch((problem) => {
    root.dataset.drawn = "failed";
    for (const note of document.querySelectorAll(".waiting")) {
      note.textContent = "This plot cannot be drawn by this browser; the words below say what it shows.";
    }
    throw problem;
  });
