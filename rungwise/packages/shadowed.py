"""Files beside a script that hide a package which a sweep imports: a script named ray.py, for instance."""

from __future__ import annotations

import os
import sys

PACKAGES = ("mlflow", "numpy", "optuna", "pandas", "pyarrow", "pydantic", "ray", "rich", "scipy", "sklearn",
            "sqlalchemy", "torch", "tyro")  # fmt: skip


def refuse_shadowed_packages() -> None:
    """End the process with code 2 and one line when a file beside its script hides one of `PACKAGES`.

    Without it the script is imported in place of the package, and the error is a traceback out of someone's module.

    Raises:
        SystemExit: There is such a file.
    """
    if sys.flags.safe_path or not hasattr(sys.modules.get("__main__"), "__file__"):
        return
    for package in PACKAGES:
        file = os.path.join(sys.path[0], f"{package}.py")
        if os.path.isfile(file):
            print(f"error: {file} hides the package {package}, which a sweep imports: rename the file", file=sys.stderr)
            raise SystemExit(2)
