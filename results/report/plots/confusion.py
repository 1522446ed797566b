"""The confusion matrix of the test set."""

from __future__ import annotations

from collections.abc import Sequence

from rungwise.results.report.plots.primitives import Figure, Json, View, category, colour, safe
from rungwise.text import plural


def plot_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Counts on the test set: mistakes are coloured, the right ones on the diagonal are not."""
    size = len(matrix)
    names = [safe(name) for name in classes]
    wrong = [[None if i == j else count for j, count in enumerate(row)] for i, row in enumerate(matrix)]
    worst = sorted(((count, i, j) for i, row in enumerate(matrix) for j, count in enumerate(row) if i != j and count))
    total = sum(map(sum, matrix))
    right = sum(matrix[i][i] for i in range(size))
    scale = [[0, colour("panel")], [0.15, colour("heat-1")], [1, colour("heat-2")]]
    cells: Json = {"type": "heatmap", "z": wrong, "x": names, "y": names, "colorscale": scale, "zmin": 0}
    cells |= {"showscale": False, "xgap": 1, "ygap": 1}
    cells["hovertemplate"] = "%{z} of class %{y} taken for %{x}<extra></extra>"
    notes: list[Json] = []
    if size <= 12:
        most = worst[-1][0] if worst else 1
        notes = [
            {"x": names[j], "y": names[i], "text": str(count), "showarrow": False}
            | {"font": {"size": 11, "color": colour(_ink(i == j, count / most))}}
            for i, row in enumerate(matrix)
            for j, count in enumerate(row)
            if count
        ]
    shares = [(matrix[i][i] / sum(row), i) for i, row in enumerate(matrix) if sum(row)]
    confused = ", ".join(
        f"{classes[i]} taken for {classes[j]} ({plural(count, 'time')})" for count, i, j in worst[::-1][:3]
    )
    axes = {"xaxis": category(classes, title={"text": "predicted"}, showgrid=False, zeroline=False)}
    axes["yaxis"] = category(classes, title={"text": "true"}, autorange="reversed", showgrid=False)
    return Figure(
        "confusion",
        f"{right} of {plural(total, 'test sample')} are right."
        + (f" Most frequent mistakes: {confused}." if confused else "")
        + (f" Weakest class: {classes[min(shares)[1]]}, {100 * min(shares)[0]:.1f}% right." if shares else ""),
        [View("confusion", [cells], axes | {"annotations": notes})],
        "Rows: what it is. Columns: what the model says. Mistakes are coloured; the diagonal counts what is right.",
        height=480,
    )


def _ink(diagonal: bool, share: float) -> str:
    if diagonal:
        return "muted"
    return "on-heat" if share > 0.55 else "ink"
