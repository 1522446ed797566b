"""Whether an IAM policy document allows a request: as much of IAM's evaluation as our documents use, and no more.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any


def allows(document: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str] | None = None) -> bool:
    """Whether some statement allows `action` on `resource`, where the request carries `context`.

    Raises NotImplementedError for what our documents do not hold, such as Deny or another operator.
    """
    return any(_applies(statement, action, resource, context or {}) for statement in document["Statement"])


def _applies(statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]) -> bool:
    if statement["Effect"] != "Allow" or statement.keys() - {"Effect", "Action", "Resource", "Condition"}:
        raise NotImplementedError(statement)
    return (
        any(_matches(pattern.lower(), action.lower()) for pattern in _list(statement["Action"]))
        and any(_matches(pattern, resource) for pattern in _list(statement["Resource"]))
        and all(
            _holds(operator, wanted, context.get(key))
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _holds(operator: str, wanted: str | Sequence[str], given: str | None) -> bool:
    """A key that the request does not carry fulfils neither operator."""
    if operator == "StringEquals":
        return given in _list(wanted)
    if operator == "ArnEquals":
        return given is not None and any(_matches(pattern, given) for pattern in _list(wanted))
    raise NotImplementedError(operator)


def _matches(pattern: str, text: str) -> bool:
    """`*` stands for any letters, `?` for one. A request's own `*` is an id that is not known yet."""
    parts = [{"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern]
    return re.fullmatch("".join(parts), text) is not None


def _list(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value
