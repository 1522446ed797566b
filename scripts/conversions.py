"""Scripts of tests/own/scripts before and after they became sweeps, as the section of docs/own-training.md.

python scripts/conversions.py      # write the section anew
"""

from __future__ import annotations

import difflib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "tests/own/scripts"
PAGE = ROOT / "docs/own-training.md"
BEGIN, END = "<!-- conversions: scripts/conversions.py writes this section -->\n", "<!-- end of conversions -->\n"


def names() -> list[str]:
    """File names of the scripts that exist both before and after."""
    return sorted(path.name for path in (SCRIPTS / "before").glob("*.py"))


def difference(name: str) -> list[str]:
    """The lines of a unified diff with one line of context, without its head."""
    before, after = ((SCRIPTS / folder / name).read_text().splitlines() for folder in ("before", "after"))
    lines = list(difflib.unified_diff(before, after, n=1, lineterm=""))[2:]
    return ["@@" if line.startswith("@@") else line for line in lines]


def written(name: str) -> int:
    """Lines that a user writes: new or changed ones that are not empty."""
    return sum(line.startswith("+") and line != "+" for line in difference(name))


def section() -> str:
    """The Markdown between `BEGIN` and `END`."""
    parts = []
    for name in names():
        title = (SCRIPTS / "after" / name).read_text().split('"""')[1].strip()
        parts.append(f"**{title}** {written(name)} lines written (`{name}`):\n\n```diff\n")
        parts += [f"{line}".rstrip() + "\n" for line in difference(name)]
        parts.append("```\n\n")
    return "\n" + "".join(parts)


def main() -> None:
    text = PAGE.read_text()
    head, rest = text.split(BEGIN)
    PAGE.write_text(head + BEGIN + section() + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
