"""The command `rungwise predict`: images, or the rows of tables, through a run's confirmed model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from rungwise.results.cli.runs import RUNS, Switch, find_run, newest_run
from rungwise.results.io.command_line import CommandLineError
from rungwise.results.io.text import say
from rungwise.results.record.types import FILE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rungwise.results.model.model import Model


def predict(
    run_and_files: Annotated[
        tuple[Path, ...],
        arg(metavar="[RUN] FILE [FILE ...]", help_behavior_hint=f"(default RUN: the newest in {RUNS}/)"),
    ] = (),
    /,
    *,
    invert: Switch = False,
    trust: Switch = False,
) -> int:
    """Predict the class or target of images, or of the rows of tables, with a run's confirmed model.

    Prints columns with a header, separated by tabs: the image, or the row of a table (FILE:1, FILE:2, ...); its most
    probable class and the probability of that class, from 0 to 1; of a regression the prediction, in the unit of the
    target. Notes go to standard error.

    Args:
        run_and_files: The run's folder, or one that holds a model, or the run's name; then png, jpeg, ...; for a
            model of a table csv, tsv, parquet or arrow files with the columns that it was trained on, as they are.
        invert: Dark drawings on light paper, for a model of light ones.
        trust: Whoever made the run may run code here: needed for a model function of your own, whose torch.export
            program is code; built-in models do not need it.
    """
    from rungwise.results.model import tables
    from rungwise.results.model.model import load

    run, files = _run_and_files(run_and_files)
    if not files:
        raise CommandLineError("a FILE must be given, an image or a table (see rungwise predict --help)")
    model = load(newest_run() if run is None else run, trust)
    of_tables = tables.is_of_tables(model.description)
    names, samples = _rows(files, model) if of_tables else _images(files, model, invert)
    say("\t".join(("row" if of_tables else "image", *(("class", "probability") if model.classes else ("prediction",)))))
    for name, row in zip(names, model.predict(samples), strict=True):
        say(f"{name}\t{model.classes[row.argmax()]}\t{row.max():.4f}" if model.classes else f"{name}\t{row[0]:.6g}")
    return 0


def _images(paths: Sequence[Path], model: Model, invert: bool) -> tuple[list[str], NDArray[Any]]:
    """Names and pixels (N, C, H, W) of image files. Raises ImageError, which names all that cannot be used."""
    import numpy as np

    from rungwise.results.model.images import ImageError, read

    pictures, problems = [], []
    for path in paths:
        try:
            pictures.append(read(path, model.description, invert))
        except ImageError as error:
            problems.append(str(error))
    if problems:
        raise ImageError("\n".join(dict.fromkeys(problems)))
    for path, picture in zip(paths, pictures, strict=True):
        for note in picture.notes:
            say(f"{path}: {note}", sys.stderr)
    return list(map(str, paths)), np.stack([picture.pixels for picture in pictures])


def _rows(paths: Sequence[Path], model: Model) -> tuple[list[str], NDArray[Any]]:
    """Names and features (N, F) of the rows of tables. Raises TableError."""
    import numpy as np

    from rungwise.results.model.tables import read

    names, parts = [], []
    for path in paths:
        rows, notes = read(path, model.description)
        for note in notes:
            say(f"{path}: {note}", sys.stderr)
        names += [f"{path}:{number}" for number in range(1, len(rows) + 1)]
        parts.append(rows)
    return names, np.concatenate(parts)


def _run_and_files(paths: tuple[Path, ...]) -> tuple[Path | None, tuple[Path, ...]]:
    """The folder that is named before the files; None when there is none. Raises RecordError for an unknown name."""
    from rungwise.results.model.model_folder import CONFIG, FOLDER

    if not paths:
        return None, paths
    named = paths[0]
    folders = [folder for folder in (named, RUNS / named) if folder.is_dir()]
    # A folder of images may have the name of a run.
    held = (folder for folder in folders for name in (FILE, CONFIG, f"{FOLDER}/{CONFIG}") if (folder / name).exists())
    if folder := next(held, next(iter(folders), None)):
        return folder, paths[1:]
    if not named.suffix and not named.exists():
        return find_run(named), paths[1:]
    return None, paths
