"""The limits that docs/limits.md tells are those of the code, and the settings' those of their schemas."""

import importlib
import json
import re
from typing import Any

import pytest

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "limits.md").read_text()
#: Where the page has no number.
NONE = "\N{EN DASH}"
UNITS = {"KiB": 1024, "MiB": 1024**2, "s": 1, "characters": 1, "": 1}
OF_CODE = re.findall(r"^\| .* \| ([\d.]+) ?(\w*) \| `(darkroom_[\w.]+)` \|$", PAGE, re.MULTILINE)
OF_SETTINGS = [
    (file, *row)
    for file, part in re.findall(r"^In \[`(\w+)\.yaml`\].*?:\n\n(.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    for row in re.findall(r"^\| `([\w.]+)`[^|]* \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", part, re.MULTILINE)
]


@pytest.mark.parametrize(("number", "unit", "constant"), OF_CODE)
def test_a_limit_is_the_one_of_the_code(number: str, unit: str, constant: str) -> None:
    module, _, name = constant.rpartition(".")
    assert getattr(importlib.import_module(module), name) == float(number) * UNITS[unit]


@pytest.mark.parametrize(("file", "setting", "least", "most", "default"), OF_SETTINGS)
def test_a_settings_limits_are_those_of_its_schema(
    file: str, setting: str, least: str, most: str, default: str
) -> None:
    said = described(file, setting)
    assert least.removeprefix("above ") == told(said, "minimum", "minItems", "exclusiveMinimum")
    assert most == told(said, "maximum", "maxItems")
    assert default == told(said, "default")


def described(file: str, setting: str) -> dict[str, Any]:
    """What the schema of a file says of a setting, ``a.b`` say, whether it is optional or in a list."""
    schema = json.loads((ROOT / "contract" / "schemas" / f"{file}.schema.json").read_text())
    found = schema
    for name in [file, *setting.split(".")]:
        found = resolved(schema, found)["properties"][name]
    return {
        **resolved(schema, found),
        **{key: found[key] for key in ("default", "maxItems", "minItems") if key in found},
    }


def resolved(schema: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What it is, behind references, lists and "or null"."""
    if "$ref" in found:
        return resolved(schema, schema["$defs"][found["$ref"].rpartition("/")[2]])
    if "anyOf" in found:
        return resolved(schema, next(one for one in found["anyOf"] if one.get("type") != "null"))
    if "$ref" in found.get("items", {}):
        return resolved(schema, found["items"])
    return found


def told(said: dict[str, Any], *keys: str) -> str:
    """The first of these that is there and a number, as the page has it."""
    number = next((said[key] for key in keys if isinstance(said.get(key), int | float)), None)
    return NONE if number is None else f"{number:g}"


def test_the_page_has_limits_of_both_kinds() -> None:
    assert len(OF_CODE) > 15
    assert {file for file, *_ in OF_SETTINGS} == {"runtime", "cluster"}
