"""Names of version 0.1, which a checkout still understands until version 0.3: `sweeps.engine`, `results`,
`trainable`."""

from __future__ import annotations

import sys
from importlib import import_module


def redirect(old: str, new: str) -> None:
    """Make `import old` mean `import new`, and say so once on standard error. Called by the package while it is
    imported under its old name."""
    print(f"note: `{old}` is now `{new}`; the old name goes with version 0.3", file=sys.stderr)
    sys.modules[old] = import_module(new)
