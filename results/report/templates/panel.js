// The panel of a trial: its outcome, curve, settings and log. A point of a plot or a trial's number opens it.
const panel = document.getElementById("trial-panel");

function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function openButton(trial) {
  const button = element("button", String(trial), "open");
  button.type = "button";
  button.dataset.trial = trial;
  return button;
}

function pairsOf(rows) {
  const list = element("dl", undefined, "pairs");
  for (const [name, text] of rows) {
    const row = element("div");
    row.append(element("dt", name), element("dd", text));
    list.append(row);
  }
  return list;
}

function openTrial(number) {
  const trial = page.panel.trials[number];
  if (!trial) return;
  panel.dataset.trial = number;
  panel.querySelector("h2").textContent = `Trial ${number}`;
  const content = panel.querySelector(".content");
  content.replaceChildren(pairsOf(trial.about));
  const curve = element("div", undefined, "curve");
  if (trial.curve[0].length) content.append(curve);
  if (trial.error) content.append(element("h3", "Error"), element("pre", trial.error));
  if (trial.log !== undefined) {
    content.append(element("h3", "Last lines of its log"), element("pre", trial.log || "It printed nothing."));
  }
  if (trial.settings.length) content.append(element("h3", "Settings"), pairsOf(trial.settings));
  if (page.panel.shared.length) {
    const details = element("details");
    details.append(element("summary", "Settings that all trials share"), pairsOf(page.panel.shared));
    content.append(details);
  }
  if (!panel.open) panel.showModal();
  panel.scrollTop = 0;
  if (!trial.curve[0].length) return;
  library();
  drawCurve(curve, trial);
}

function drawCurve(at, trial) {
  const style = getComputedStyle(root);
  const paint = resolved(trial.colour, style);
  const view = { layout: { xaxis: { title: { text: "epochs" } }, yaxis: { title: { text: page.panel.metric } } } };
  if (page.panel.metric.includes("accuracy")) view.layout.yaxis.tickformat = ".4~%";
  const trace = { x: trial.curve[0], y: trial.curve[1], mode: "lines+markers", line: { color: paint } };
  Plotly.react(at, [trace], { ...layoutOf({ at }, view, style), height: 240, width: undefined }, { displayModeBar: false, responsive: true, typesetMath: false });
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button.open");
  if (button) openTrial(button.dataset.trial);
  else if (event.target === panel) panel.close(); // beside the panel
});

// A click on a point of a plot opens its trial.
function clickable(plot) {
  plot.at.on("plotly_click", ({ points }) => {
    const [{ fullData, pointNumber }] = points;
    if (fullData.meta && fullData.meta.trials) openTrial(fullData.meta.trials[pointNumber]);
  });
}
