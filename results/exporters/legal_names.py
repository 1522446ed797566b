"""Names that users choose, as MLflow takes them: of hyperparameters, metrics and arms.

MLflow refuses `lr (peak)`, `width[0]` and what is no normal path (`/x`, `a//b`, `..`). The first name that becomes a
legal one has it; another one that would become the same gets a digest of itself behind it. So the order in which
names are asked for must be the record's, which only grows.
"""

from __future__ import annotations

import hashlib
import re

_LENGTH = 100  # characters: two names and what stands around them fit into MLflow's 250


class LegalNames:
    """The legal names of one kind. Names that differ in upper and lower case alone are one to some databases."""

    def __init__(self) -> None:
        self._legal: dict[str, str] = {}
        self._taken: set[str] = set()

    def of(self, name: str) -> str:
        """The legal name; the same for every call with `name`."""
        if name not in self._legal:
            made = legal_name(name)
            if made.casefold() in self._taken:
                made = _marked(made, name)
            self._taken.add(made.casefold())
            self._legal[name] = made
        return self._legal[name]

    def changed(self) -> dict[str, str]:
        """{legal name: the name it stands for}, where they differ."""
        return {legal: name for name, legal in self._legal.items() if legal != name}


def legal_name(name: str) -> str:
    """`name` with _ for each character, or part of a path, that MLflow refuses on any system."""
    text = re.sub(r"[^\w\-. /]", "_", name).strip()
    parts = [part if part.strip(". ") else "_" * max(len(part), 1) for part in text.split("/")]
    made = re.sub(r"^\.\.", "__", "/".join(parts))
    return made if len(made) <= _LENGTH else _marked(made, name)


def storable_name(name: str) -> str:
    """The name of an experiment, in which MLflow takes any character, but not any number of them."""
    return name if len(name) <= _LENGTH * 2 else f"{_marked(name[:_LENGTH], name)}"


def _marked(made: str, name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{made[: _LENGTH - 9].rstrip('/')}-{digest}"
