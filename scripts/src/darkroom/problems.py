"""What pydantic found wrong in a file, in words for whoever wrote it: what would be right instead. Pure."""

import json
import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeAlias

from pydantic import BaseModel, TypeAdapter
from pydantic_core import ErrorDetails

from darkroom_contract import rules

#: Where a field is: ``("runtime", "args", 0)``.
Place: TypeAlias = tuple[str | int, ...]


def written(place: Place) -> str:
    """A place as people write it: ``runtime.args[0]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def explained(model: type[BaseModel], problem: ErrorDetails) -> tuple[Place, str]:
    """Where a problem is, and what would be right."""
    place, context = problem["loc"], problem.get("ctx", {})
    if not place:
        return place, f"the file has to have one key, {', '.join(model.model_fields)}"
    if place[-1] == "[key]":
        return place[:-1], _said(problem).replace("it has to be", "its name has to be", 1)
    match problem["type"]:
        case rules.WITHIN:
            place, words = (*place, *_parts(context["path"])), context["words"]
        case "missing":
            words = "it is missing"
        case "extra_forbidden":
            words = _no_such_field(model, place)
        case "too_short":
            words = f"it needs {context['min_length']} or more"
        case "too_long":
            words = f"it takes {context['max_length']} at most"
        case "enum" | "literal_error" if problem["input"] is not None:
            words = _one_of(re.findall("'([^']*)'", context["expected"]), problem["input"])
        case _:
            words = _of_its_type(model, problem)
    return place, words


def _of_its_type(model: type[BaseModel], problem: ErrorDetails) -> str:
    value = problem["input"]
    match problem["type"].removesuffix("_type"):
        case _ if value is None:
            words = _says_nothing(model, problem["loc"])
        case "string":
            is_number = isinstance(value, int | float)
            words = "it has to be a text: put it in quotes" if is_number else "it has to be one text"
        case "int" | "int_from_float":
            words = f"it has to be a whole number{_without_quotes(value)}"
        case "float":
            words = f"it has to be a number{_without_quotes(value)}"
        case "bool":
            words = f"it has to be true or false{', without quotes' if isinstance(value, str) else ''}"
        case "list" | "tuple":
            words = f"it has to be a list: [{_item(value)}]"
        case "model" | "model_attributes" | "dict":
            words = _takes_fields(model, problem["loc"])
        case _:
            words = _said(problem)
    return words


def _said(problem: ErrorDetails) -> str:
    return problem["msg"].removeprefix("Value error, ").replace("Input should be", "it should be")


def _without_quotes(value: Any) -> str:
    return ", without quotes" if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+", value) else ""


def _item(value: Any) -> str:
    """What a list would have, if a text is given in its place."""
    if not isinstance(value, str):
        return "one, another"
    return value if re.fullmatch(r"[A-Za-z_./-][A-Za-z0-9_./=-]*", value) else json.dumps(value)


def _one_of(expected: list[str], value: Any) -> str:
    quoted = [f"'{each}'" for each in expected]
    close = _meant(str(value), expected)
    hint = f"; did you mean {close}?" if close else ""
    return f"it should be {' or '.join(filter(None, (', '.join(quoted[:-1]), quoted[-1])))}{hint}"


def _says_nothing(model: type[BaseModel], place: Place) -> str:
    if len(place) > 1:
        return "there is nothing in it: take the line away, or say something in it"
    return f"there is nothing in it: {_takes_fields(model, place)}"


def _takes_fields(model: type[BaseModel], place: Place) -> str:
    part = _at(_schema(model), place)
    known = part.get("required") or list(part.get("properties", {}))
    return f"it has to have lines below it, further to the right: {known[0] if known else 'name'}: …"


def _parts(path: str) -> Place:
    return tuple(name or int(index) for name, index in re.findall(r"([^.\[\]]+)(?!\])|\[(\d+)\]", path))


def _no_such_field(model: type[BaseModel], place: Place) -> str:
    *above, name = place
    schema, parent, text = _schema(model), tuple(above), str(name)
    known = _fields(schema, parent)
    for owner in _around(known, parent):
        right = next((field for field in _fields(schema, owner) if _letters(field) == _letters(text)), None)
        if right and _letters(text) not in map(_letters, known):
            return f"there is no such field; {right} belongs to {written(owner)}"
    close = _meant(text, known)
    remedy = f"did you mean {close}?" if close else f"there are {', '.join(known)}"
    return f"there is no such field; {remedy}" if known else "there is no such field"


def _around(known: Iterable[str], parent: Place) -> Iterable[Place]:
    """The places that a field of an object may have been meant for, if it is none of those that the object has."""
    if parent:
        yield from ((*parent, field) for field in known)
        yield from (parent[:end] for end in range(len(parent) - 1, 0, -1))


def _meant(text: str, names: Iterable[str]) -> str | None:
    by_letters = {_letters(name): name for name in names}
    close = get_close_matches(_letters(text), by_letters, n=1)
    return by_letters[close[0]] if close else None


def _letters(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return TypeAdapter(model).json_schema()


def _fields(schema: dict[str, Any], place: Place) -> list[str]:
    return list(_at(schema, place).get("properties", {}))


def _at(schema: dict[str, Any], place: Place) -> dict[str, Any]:
    """The schema of what is at a place, by the schema of the whole."""

    def resolved(part: dict[str, Any]) -> dict[str, Any]:
        part = next((choice for choice in part.get("anyOf", ()) if choice.get("type") != "null"), part)
        found: dict[str, Any] = schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        return found

    part = schema
    for step in place:
        patterns: dict[str, Any] = next(iter(part.get("patternProperties", {}).values()), {})
        within = part.get("items", {}) if isinstance(step, int) else part.get("properties", {}).get(step, patterns)
        others = part.get("additionalProperties")
        part = resolved(within or (others if isinstance(others, dict) else {}))
    return part
