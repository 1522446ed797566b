"""The same sweep packed and not, as commands: the same trials, which end alike."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from rungwise.results.record.reader import Reader

ROOT = Path(__file__).resolve().parents[2]
SAME = ("--sampler", "random", "--scheduler", "none", "--trials", "64", "--no-confirm", "--quiet")


@pytest.mark.long  # 768 epochs of MNIST: three minutes on two cores
def test_mnist_l2s_64_trials_end_alike_packed_and_not(tmp_path: Path) -> None:
    """Random suggestions and no early stopping: what is suggested, and how long it trains, depends on nobody's scores.

    Prints the mean of the paired differences of the last validation accuracy with its 95 % interval. Only a difference
    that would matter fails: 0 lies outside such an interval once in twenty times.
    """
    found: dict[str, dict[int, tuple[str, float]]] = {}
    for name, flags in {"plain": (), "packed": ("--pack", "4")}.items():
        command = [sys.executable, str(ROOT / "sweeps/mnist_l2.py"), "--out", str(tmp_path), "--name", name]
        subprocess.run([*command, *SAME, *flags], check=True, cwd=tmp_path, timeout=3600)
        with Reader(tmp_path / name) as reader:
            last = {report.trial: report.metrics["val_accuracy"] for report in reader.reports()}
            found[name] = {trial.trial: (str(trial.config), last[trial.trial]) for trial in reader.trials()}
    plain, packed = found["plain"], found["packed"]
    assert plain.keys() == packed.keys() == set(range(1, 65))
    assert [plain[trial][0] for trial in plain] == [packed[trial][0] for trial in plain]
    differences = [packed[trial][1] - plain[trial][1] for trial in plain]
    mean, error = statistics.mean(differences), statistics.stdev(differences) / math.sqrt(64)
    print(f"packed minus plain: {100 * mean:+.4f} points, 95 % interval +-{100 * 1.998 * error:.4f}")
    assert any(differences)  # sums were taken in another order: else nothing was packed
    assert abs(mean) < 0.0005
    assert 1.998 * error < 0.002  # Student's t, 63 degrees of freedom
