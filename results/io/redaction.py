"""Secrets in text are replaced by *** before it leaves this process: records, pages, terminals, MLflow.

Where a URI ends and its password begins is known of the URIs that this process was given (`remember`); in any other
text a URI ends at white space. When in doubt more is starred out, never less: passwords hold /, ?, # and @, and
the programs that read such a URI (SQLAlchemy, urllib, libpq, Arrow) differ in how they read it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

STARS = "***"
_SHORTEST = 4  # characters of a secret that is looked for anywhere: a shorter one is part of ordinary words
_TOKEN = 16  # characters from which on a user name without a password, or a key's name, is a secret itself
_NAME = r"[\w.-]*(?:passw|pwd|secret|token|credential|signature|api_?key|access_?key|secret_?key|sslkey)[\w.-]*"
_PARAMETER = re.compile(rf"(?i)((?:[?&;]|%3B){_NAME}(?:=|%3D))((?:(?!%3B)[^&;\s])*)")
_WORD = re.compile(r"(?<=://)(?:[^\s/?#:@'\"]*:\S*@|[^\s/?#@'\"]*@)")
_WHOLE = re.compile(r"(?s)(?<=://)(?:[^/?#:@]*:.*@|[^/?#@]*@)")
_given: dict[str, str] = {}  # what must not be shown -> what is shown in its place


class Verbatim(dict[str, Any]):
    """Values that are not redacted: the definition and hyperparameters of a run. They contain no secrets, and a
    password may equal the name of an optimiser: with stars in it, another network would be trained."""


def remember(*uris: str | None) -> None:
    """From now on `redacted` knows the secrets of these URIs, wherever and however a message repeats them."""
    for uri in uris:
        if uri and "://" in uri:
            _given.update(_replacements(uri))


def redacted(text: str) -> str:
    """`text` fit to be shown and kept: user names, passwords, keys and tokens of URIs in it become ***."""
    return _cleaned(text, _given)


def without_secrets(text: str, uri: str) -> str:
    """`redacted(text)` that knows the secrets of `uri`, too."""
    return _cleaned(text, _given | _replacements(uri))


def redacted_uri(uri: str) -> str:
    """The same of a text that is one URI, or an argument of a command line that holds one: its password may hold white
    space."""
    return _PARAMETER.sub(_starred, _WHOLE.sub(f"{STARS}@", uri))


def redacted_values(value: Any) -> Any:
    """A value made of dicts, lists and texts, as JSON is, with every text in it redacted; keys, and what is Verbatim,
    stay as they are."""
    if isinstance(value, Verbatim):
        return value
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {key: redacted_values(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [redacted_values(part) for part in value]
    return value


def _cleaned(text: str, known: Mapping[str, str]) -> str:
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, known[secret])
    if "://" in text:
        text = _WORD.sub(f"{STARS}@", text)
    return _PARAMETER.sub(_starred, text)


def _starred(match: re.Match[str]) -> str:
    return match[1] + STARS if match[2] else match[0]


def _replacements(uri: str) -> dict[str, str]:
    """{text that must not be shown: what is shown}: the URI itself, and each of its secrets as it may be repeated."""
    replacements = {uri: redacted_uri(uri)} if redacted_uri(uri) != uri else {}
    for secret in _secrets(uri):
        for text in (secret, unquote(secret), quote(unquote(secret), safe=""), repr(unquote(secret))[1:-1]):
            if len(text) >= _SHORTEST:
                replacements[text] = STARS
    return replacements


def _secrets(uri: str) -> Iterator[str]:
    if credentials := _WHOLE.search(uri):
        user, colon, password = credentials.group().removesuffix("@").partition(":")
        yield from (password, *password.split("@")) if colon else ()
        if len(user) >= _TOKEN:
            yield user
    for parameter in _PARAMETER.finditer(uri):
        yield parameter[2]
