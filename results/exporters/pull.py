"""`rungwise pull SOURCE NAME`: a run's folder comes home, from a cluster's head or from a mirror."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from rungwise.results.exporters.mirror import ABOUT, Mirror, MirrorError, bringing
from rungwise.results.io.paths import UnsafeName, resolve_below, run_name_problem, shown
from rungwise.results.io.redaction import redacted
from rungwise.results.record.types import FILE

_STAGE = ".rungwise-pull"  # on the head: a copy of one moment


def pull(source: str, name: str, out: Path) -> Path:
    """Make out/NAME from the copy below `source` (a path or URI), or, of a cluster's YAML file, from its head's ~/runs.

    Raises MirrorError when out/NAME holds a record, or the run cannot be had; RecordError when the copy is damaged.
    """
    if problem := run_name_problem(name):
        raise MirrorError(f"{problem}, but got {shown(name)}")
    try:
        folder = resolve_below(out, name)
    except UnsafeName as error:
        raise MirrorError(str(error)) from None
    if (folder / FILE).exists():
        raise MirrorError(f"{folder} holds a run; choose another --out, or move it away")
    if not source.endswith((".yaml", ".yml")):
        Mirror(source, name).fetch(folder)
        return folder
    if not Path(source).is_file():
        raise MirrorError(f"a cluster's YAML file must exist, but {source} does not")
    stage = f"~/{_STAGE}"
    run = f"python -P -m rungwise copy {shlex.quote(f'runs/{name}')} {_STAGE}"
    _ray("exec", source, f"rm -rf {stage} && cd ~ && {run}")
    with bringing(folder) as copy:
        _ray("rsync-down", source, f"{stage}/{name}/", f"{copy}/")
        (copy / ABOUT).unlink(missing_ok=True)
    return folder


def _ray(*words: str) -> None:
    ray = shutil.which("ray") or str(Path(sys.executable).with_name("ray"))
    done = subprocess.run([ray, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines()
        raise MirrorError(f"ray {words[0]} {words[1]} failed: {redacted(said[-1]) if said else 'no word'}")
