"""For scripts of version 0.1 in this folder, which say `from sweeps.engine import ...`; goes with version 0.3."""

from rungwise._old_names import redirect

redirect("sweeps.engine", "rungwise.engine")
