"""Hooks of mkdocs.yml: the page "API" gets a table of the hyperparameters, made from the fields of `Config`."""

from __future__ import annotations

from typing import Any

from rungwise.trainable.config import Config

PLACEHOLDER = "<!-- hyperparameters -->"
BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}  # of JSON schema


def hyperparameter_table() -> str:
    """A Markdown table with one row per field of `Config`."""
    rows = ["| hyperparameter | default | unit | range | meaning |", "|---|---|---|---|---|"]
    for name, schema in Config.model_json_schema()["properties"].items():
        bounds = [f"{sign} {schema[key]:g}" for key, sign in BOUNDS.items() if key in schema]
        values = ", ".join(schema.get("enum", bounds))
        default = Config.model_fields[name].default
        cells = [f"`{name}`", f"`{default!r}`", schema["unit"], values, schema["description"]]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the table; MkDocs calls this for the Markdown text of every page."""
    return markdown.replace(PLACEHOLDER, hyperparameter_table()) if PLACEHOLDER in markdown else markdown
