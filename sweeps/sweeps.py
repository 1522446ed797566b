"""Makes `from sweeps.engine import ...` work in scripts of version 0.1 in this folder; to be removed in version 0.3."""

from rungwise.packages.old_names import redirect

redirect("sweeps.engine", "rungwise.engine")
