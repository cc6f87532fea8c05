"""Kubernetes' structural schemas of pydantic's models. Pure.

Kubernetes takes a part of JSON Schema, as OpenAPI 3.0 has it: no references, no null beside a type, no limit that is a
number of its own and excluded. What else a model says has to be given an equivalent here: an unknown word is an error.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from pydantic import BaseModel

from darkroom_contract.rules import rule, rules

Schema: TypeAlias = dict[str, Any]

#: The words that mean the same in both.
_SAME = {
    "type",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "nullable",
    "required",
    "maxProperties",
}
#: A value that the schema says nothing of: without this Kubernetes drops it.
_ANYTHING: Schema = {"x-kubernetes-preserve-unknown-fields": True}


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of a model; raises ``ValueError`` with the place of what Kubernetes cannot say."""
    schema = model.model_json_schema(by_alias=True)
    return _Converter(schema.pop("$defs", {})).convert(schema, model.__name__)


def observed(model: type[BaseModel]) -> Schema:
    """The structural schema of a status: it may be there in part, and says nothing that was not observed."""
    schema = structural(model)
    schema.pop("required", None)
    return _bare(schema)


class _Converter:
    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def convert(self, schema: Schema, place: str) -> Schema:
        result: Schema = {}
        for word, value in self._with_anything(_in_words(_with_any_names(self._inlined(schema, place))), place).items():
            result |= self._converted(word, value, place)
        return {word: result[word] for word in sorted(result, key=_reading_order)}

    def _inlined(self, schema: Schema, place: str) -> Schema:
        """The schema with what it refers to."""
        reference = schema.get("$ref")
        if reference:
            target = self._inlined(self._definitions[reference.rpartition("/")[2]], place)
            return target | {word: value for word, value in schema.items() if word != "$ref"}
        if "anyOf" in schema:
            choices = [choice for choice in schema["anyOf"] if choice != {"type": "null"}]
            if len(choices) != 1 or len(schema["anyOf"]) != 2:
                raise ValueError(f"{place}: Kubernetes has no choice between types")
            rest = {word: value for word, value in schema.items() if word != "anyOf"}
            return {**self._inlined(choices[0], place), **rest, "nullable": True}
        return schema

    def _with_anything(self, schema: Schema, place: str) -> Schema:
        """The schema, where it says nothing of a value, or of an object's, saying that anything is kept."""
        inner = schema.get("additionalProperties")
        if isinstance(inner, dict) and not self._inlined(inner, place):
            return {word: value for word, value in schema.items() if word != "additionalProperties"} | _ANYTHING
        return schema if schema.keys() - {"title", "description", "default"} else schema | _ANYTHING

    def _converted(self, word: str, value: Any, place: str) -> Schema:
        converted: Schema
        match word:
            case "title":
                converted = {}
            case "description":
                converted = {word: re.sub(r"\s+", " ", value).replace("``", "`")}
            case "default":
                converted = {} if value is None else {word: _without_nulls(value)}
            case "const":
                converted = {"enum": [value]}
            case "exclusiveMinimum" | "exclusiveMaximum":
                converted = {word.removeprefix("exclusive").lower(): value, word: True}
            case "properties":
                converted = {word: {name: self.convert(field, f"{place}.{name}") for name, field in value.items()}}
            case "items" | "additionalProperties" if isinstance(value, dict):
                converted = {word: self.convert(value, f"{place}[]")}
            case "additionalProperties" if value is False:
                converted = {}  # Kubernetes drops fields that a schema does not know.
            case _ if word in _SAME or word.startswith("x-kubernetes-"):
                converted = {word: value}
            case _:
                raise ValueError(f"{place}: {word} has no equivalent in Kubernetes")
        return converted


def _with_any_names(schema: Schema) -> Schema:
    """The schema without a grammar of its fields' names, which Kubernetes lacks: the function refuses others."""
    if "patternProperties" not in schema:
        return schema
    (value,) = schema["patternProperties"].values()
    rest = {word: value for word, value in schema.items() if word not in {"patternProperties", "propertyNames"}}
    return {**rest, "additionalProperties": value}


def _in_words(schema: Schema) -> Schema:
    """The schema with a rule instead of a pattern that has words: of a pattern the API server repeats the pattern."""
    words = schema.get("patternErrorMessage")
    if words is None:
        return schema
    rest = {word: value for word, value in schema.items() if word not in {"pattern", "patternErrorMessage"}}
    further = schema.get("x-kubernetes-validations", ())
    return rest | rules(rule(f"self.matches(r'{schema['pattern']}')", words), *further)


def _reading_order(word: str) -> int:
    order = ("type", "description", "", "properties", "items")
    return order.index(word if word in order else "")


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return value


def _bare(schema: Schema) -> Schema:
    bare = {word: value for word, value in schema.items() if word not in {"default", "nullable"}}
    if "properties" in bare:
        bare["properties"] = {name: _bare(field) for name, field in bare["properties"].items()}
    for inner in ("items", "additionalProperties"):
        if inner in bare:
            bare[inner] = _bare(bare[inner])
    return bare
