"""Import names of version 0.1 that work in a checkout until version 0.3: `sweeps.engine`, `results`, `trainable`."""

from __future__ import annotations

import sys
from importlib import import_module


def redirect(old: str, new: str) -> None:
    """Import `new` in place of `old`, with a note on standard error. The package calls it when imported as `old`."""
    print(f"note: `{old}` is now `{new}`; the old name will be removed in version 0.3", file=sys.stderr)
    sys.modules[old] = import_module(new)
