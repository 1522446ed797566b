"""Docstrings of the public names: what `help()`, an editor and the API reference show."""

from __future__ import annotations

import inspect
import re
import types
from importlib.metadata import version

import pytest

import rungwise

NAMES = [name for name in rungwise.__all__ if name != "__version__"]


def public_functions(name: str) -> dict[str, types.FunctionType]:
    """{qualified name: function}: a public function itself, or the public methods and getters of a public class."""
    value = getattr(rungwise, name)
    if inspect.isfunction(value):
        return {name: value}
    members = {key: member.fget if isinstance(member, property) else member for key, member in vars(value).items()}
    return {
        f"{name}.{key}": member
        for key, member in members.items()
        if inspect.isfunction(member) and not key.startswith("_")
    }


def section(docstring: str, title: str) -> str:
    """Text of the section `title`, such as "Args"; empty where there is none."""
    match = re.search(rf"^{title}:\n((?:[ ]+.*\n|\n)+)", docstring + "\n", re.MULTILINE)
    return match[1] if match else ""


def undocumented_parameters(name: str, value: object) -> list[str]:
    """Parameters of a function or class that its docstring does not describe; of an exception none are expected."""
    if inspect.isclass(value) and issubclass(value, BaseException):
        return []
    arguments = section(inspect.getdoc(value) or "", "Args")
    parameters = inspect.signature(value).parameters  # type: ignore[arg-type]
    described = [key for key in parameters if re.search(rf"^ +\**{key}: \S", arguments, re.MULTILINE)]
    return [f"{name}: {key}" for key in parameters if key not in [*described, "self"]]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_and_its_members_have_docstrings_with_args_and_raises_sections(name: str) -> None:
    value = getattr(rungwise, name)
    documented = {name: value, **public_functions(name)}
    assert [key for key, each in documented.items() if not inspect.getdoc(each)] == []
    assert [key for key, each in documented.items() if "Raises " in (inspect.getdoc(each) or "")] == []
    assert [line for key, each in documented.items() for line in undocumented_parameters(key, each)] == []


def test_the_section_of_a_docstring_ends_at_the_next_one() -> None:
    docstring = "Do it.\n\nArgs:\n    first: One.\n\nRaises:\n    ValueError: No."
    assert (section(docstring, "Args"), section(docstring, "Returns")) == ("    first: One.\n\n", "")


def test_the_version_is_that_of_the_installed_distribution() -> None:
    assert rungwise.__version__ == version("rungwise")
