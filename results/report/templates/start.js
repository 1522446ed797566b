// Draws all plots, and again when the colours, the width or the paper change.
for (const at of document.querySelectorAll("[data-plot]")) {
  const told = page.plots[at.dataset.plot];
  plots.push({ key: at.dataset.plot, at, told, view: 0, hidden: new Set(), figure: at.closest("figure"), begun: false });
}

const before = keptState();
if (before) restorePlots(before);
for (const plot of plots) { // what takes room beside a plot comes first: the page does not move while it is drawn
  choosable(plot);
  legend(plot, getComputedStyle(root));
}
if (before) restorePage(before);

// Draws a plot for the first time, with what a reader can do with it.
function begin(plot) {
  plot.begun = true;
  library();
  plot.at.replaceChildren();
  const drawn = draw(plot);
  switches(plot);
  clickable(plot);
  brushable(plot);
  return drawn;
}

async function drawAll() {
  const later = () => new Promise((resume) => setTimeout(resume)); // the page stays alive between two plots
  await later(); // the words come first
  const away = ({ at }) => Math.max(0, at.getBoundingClientRect().top - innerHeight, -at.getBoundingClientRect().bottom);
  for (const plot of [...plots].sort((a, b) => away(a) - away(b))) {
    if (!plot.begun) await begin(plot);
    await later();
  }
}

const redraw = () => plots.filter((plot) => plot.begun).forEach(draw);
dark.addEventListener("change", redraw);
narrow.addEventListener("change", redraw);
addEventListener("beforeprint", () => {
  root.dataset.theme = "light";
  printing = true;
  for (const plot of plots) (plot.begun ? draw : begin)(plot); // now: paper does not wait for what is drawn later
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
