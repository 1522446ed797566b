// What a reader has chosen is kept while the page is loaded again, as `rungwise report --watch` does.
const PLACE = `rungwise ${location.pathname}`;

function keepState() {
  const find = document.querySelector(".find");
  const sorted = document.querySelector("th[aria-sort]:not([aria-sort=none])");
  const state = {
    top: scrollY,
    trial: panel.open ? panel.dataset.trial : null,
    panelTop: panel.scrollTop,
    plots: plots.map(({ key, view, hidden, chosen }) => ({ key, view, hidden: [...hidden], chosen })),
    brushes,
    find: find && [find.value, document.activeElement === find, find.selectionStart],
    sorted: sorted && [sorted.textContent, sorted.getAttribute("aria-sort")],
    open: [...document.querySelectorAll("details[open] > summary")].map((summary) => summary.textContent),
  };
  try {
    sessionStorage.setItem(PLACE, JSON.stringify(state));
  } catch {
    // a browser may keep nothing of a file's page
  }
}

function keptState() {
  if (performance.getEntriesByType("navigation")[0]?.type !== "reload") return null;
  try {
    return JSON.parse(sessionStorage.getItem(PLACE));
  } catch {
    return null;
  }
}

function restorePlots(state) {
  for (const { key, ...kept } of state.plots) {
    const plot = plots.find((other) => other.key === key);
    if (!plot) continue;
    if (kept.view < plot.told.views.length) plot.view = kept.view;
    plot.hidden = new Set(kept.hidden);
    if (plot.told.axes) plot.kept = kept.chosen;
  }
  if (plots.some((plot) => plot.key === "parallel")) brushes.push(...state.brushes);
}

function restorePage(state) {
  for (const summary of document.querySelectorAll("details > summary")) {
    summary.parentElement.open = state.open.includes(summary.textContent);
  }
  for (const head of document.querySelectorAll("th[aria-sort]")) {
    if (!state.sorted || head.textContent !== state.sorted[0]) continue;
    while (head.getAttribute("aria-sort") !== state.sorted[1]) head.querySelector("button").click();
  }
  const find = document.querySelector(".find");
  if (find && state.find) {
    find.value = state.find[0];
    find.dispatchEvent(new Event("input"));
    if (state.find[1]) find.focus({ preventScroll: true });
    if (state.find[1]) find.setSelectionRange(state.find[2], state.find[2]);
  }
  scrollTo({ top: state.top, behavior: "instant" });
  if (state.trial !== null) {
    openTrial(state.trial);
    panel.scrollTop = state.panelTop;
  }
}

history.scrollRestoration = "manual"; // a browser's own comes before the plots have their height
addEventListener("pagehide", keepState);

// Loads the page again, but not under a reader's hand: while text is selected or a button of the mouse is down.
if (page.renewed) {
  let down = false;
  addEventListener("pointerdown", () => (down = true));
  for (const name of ["pointerup", "pointercancel"]) addEventListener(name, () => (down = false));
  const renew = () => (down || !getSelection().isCollapsed ? setTimeout(renew, 500) : location.reload());
  setTimeout(renew, 1000 * page.renewed);
}
