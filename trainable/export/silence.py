"""Suppress the output of code that is only tried."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Suppress everything that is printed, logged or warned of within the block. Exceptions pass."""
    disabled = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)  # handlers may hold the real standard error, as torch's do
        try:
            yield
        finally:
            logging.disable(disabled)
