"""The composites' definitions are the models', and of a kind that Kubernetes takes."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from pydantic import Field

from darkroom_contract.types import Description
from darkroom_function import definitions, schemas
from darkroom_function.apis import InvalidSpec
from darkroom_function.compositions import compose
from darkroom_function.definitions import APIS, Api
from tests.compositions import specs

PUBLISHED = Path(__file__).parents[3] / "crossplane" / "apis"
#: What a structural schema may say (Kubernetes, "Specifying a structural schema").
WORDS = {
    *("type", "description", "default", "enum", "format", "pattern", "required", "properties", "items", "nullable"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems"),
    *("additionalProperties", "maxProperties", "x-kubernetes-preserve-unknown-fields"),
    *("x-kubernetes-validations", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
}
#: One of what most have, and one of every option.
EXAMPLES = ("example.yaml", "example-full.yaml")
MATCHES = re.compile(r"self\.matches\(r'(.*)'\)")
by_kind = pytest.mark.parametrize("api", APIS, ids=lambda api: api.kind)


def schema_of(api: Api) -> dict[str, Any]:
    (version,) = api.definition()["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def parts(schema: dict[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield place, schema
    for name, field in schema.get("properties", {}).items():
        yield from parts(field, f"{place}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in schema:
            yield from parts(schema[inner], f"{place}[]")


def kept(value: Any) -> Any:
    """A spec with whole numbers as the API server keeps them, and without what is null where that is allowed."""
    if isinstance(value, list):
        return [kept(item) for item in value]
    if isinstance(value, dict):
        return {name: kept(item) for name, item in value.items() if item is not None}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def broken(_: object, rules: list[dict[str, str]], value: object, __: object) -> Iterator[jsonschema.ValidationError]:
    """The rules about one text that it breaks. Only an API server knows of the others."""
    for rule in rules:
        pattern = MATCHES.fullmatch(rule["rule"])
        if pattern and isinstance(value, str) and not re.fullmatch(pattern[1], value):
            yield jsonschema.ValidationError(rule["message"])


Validator = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft4Validator, {"x-kubernetes-validations": broken}
)


def taken(api: Api, spec: dict[str, Any]) -> bool:
    validator = Validator(schema_of(api)["properties"]["spec"])
    return bool(validator.is_valid(kept(spec)))


def example(api: Api, file: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((PUBLISHED / api.folder / file).read_text())
    return loaded


def said(value: Any, schema: dict[str, Any], place: str = "") -> Iterator[str]:
    """The places of all values that the schema knows of."""
    yield place
    for word in {"items", "additionalProperties"} & schema.keys():
        for item in value.values() if isinstance(value, dict) else value:
            yield from said(item, schema[word], f"{place}[]")
    for name, field in schema.get("properties", {}).items():
        if name in value:
            yield from said(value[name], field, f"{place}.{name}")


@pytest.mark.parametrize("path", definitions.documents())
def test_the_published_definitions_are_current(path: str) -> None:
    assert yaml.safe_load((PUBLISHED / path).read_text()) == definitions.documents()[path], "run make schemas"


def test_whoever_forgets_the_directory_is_told_so() -> None:
    command = [sys.executable, "-m", "darkroom_function.definitions"]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (told.returncode, told.stderr) == (1, "usage: python -m darkroom_function.definitions DIRECTORY\n")


def test_every_kind_is_published_with_an_example_and_nothing_else_is() -> None:
    files = {path.relative_to(PUBLISHED).as_posix() for path in PUBLISHED.rglob("*.yaml")}
    assert files == {*definitions.documents(), *(f"{api.folder}/{file}" for api in APIS for file in EXAMPLES)}


@by_kind
def test_a_full_example_says_every_option(api: Api) -> None:
    options = {place for place, _ in parts(schema_of(api)["properties"]["spec"])}
    assert set(said(example(api, "example-full.yaml")["spec"], schema_of(api)["properties"]["spec"])) == options


@pytest.mark.parametrize("file", EXAMPLES)
@by_kind
def test_an_example_is_valid_and_becomes_something(api: Api, file: str) -> None:
    composite = example(api, file)
    assert (composite["apiVersion"], composite["kind"]) == ("darkroom.dev/v1alpha1", api.kind)
    assert taken(api, composite["spec"])
    assert compose(api.kind, composite["spec"], {}).resources
    named = composite["spec"].get("name", composite["spec"]["cluster"]["name"])
    assert composite["metadata"]["name"] == named


@by_kind
def test_a_schema_is_structural(api: Api) -> None:
    for place, schema in parts(schema_of(api)):
        assert schema.keys() <= WORDS, place
        anything = schema.get("x-kubernetes-preserve-unknown-fields")
        assert anything or schema["type"] in {"object", "array", "string", "integer", "number", "boolean"}, place
        assert not {"properties", "additionalProperties"} <= schema.keys(), place
        assert schema.get("type") != "array" or "items" in schema, place
        if "default" in schema:
            jsonschema.Draft4Validator(schema).validate(schema["default"])


@by_kind
def test_a_pattern_is_one_that_go_reads_alike(api: Api) -> None:
    for place, schema in parts(schema_of(api)):
        rules = (rule["rule"] for rule in schema.get("x-kubernetes-validations", ()))
        for pattern in (schema.get("pattern", ""), *re.findall(r"matches\(r'(.*?)'\)", " ".join(rules))):
            re.compile(pattern)
            assert "(?" not in pattern, place
            assert "\\" not in re.sub(r"\\[.s]", "", pattern), place


@by_kind
def test_what_a_rule_reads_is_short_enough_for_its_cost(api: Api) -> None:
    for place, schema in parts(schema_of(api)):
        if schema.get("type") == "string" and "x-kubernetes-validations" in schema:
            assert "maxLength" in schema, place


@by_kind
def test_the_items_of_a_keyed_list_have_their_key(api: Api) -> None:
    keyed = [schema for _, schema in parts(schema_of(api)) if schema.get("x-kubernetes-list-type") == "map"]
    assert api.kind != "PromptApi" or keyed
    for schema in keyed:
        assert set(schema["x-kubernetes-list-map-keys"]) <= set(schema["items"]["required"])


@by_kind
def test_a_status_may_be_there_in_part(api: Api) -> None:
    status = schema_of(api)["properties"]["status"]
    jsonschema.Draft4Validator(status).validate({})
    assert not [place for place, schema in parts(status) if {"default", "nullable"} & schema.keys()]


@by_kind
def test_what_aws_names_are_built_from_cannot_change(api: Api) -> None:
    spec = schema_of(api)["properties"]["spec"]["properties"]
    (rule,) = spec["cluster"]["x-kubernetes-validations"]
    assert set(re.findall(r"oldSelf\.(\w+)", rule["rule"])) == {"name", "account", "region"}
    rules_of_name = [rule["rule"] for rule in spec.get("name", {}).get("x-kubernetes-validations", ())]
    assert "name" not in spec or "self == oldSelf" in rules_of_name


@by_kind
def test_columns_show_fields_that_there_are(api: Api) -> None:
    known = {place for place, _ in parts(schema_of(api))}
    (version,) = api.definition()["spec"]["versions"]
    paths = [column["jsonPath"] for column in version["additionalPrinterColumns"]]
    assert {path for path in paths if not path.startswith(".status.conditions")} <= known


@settings(max_examples=50, deadline=None)
@given(specs.composites)
def test_every_valid_spec_is_one_that_kubernetes_takes(composite: tuple[str, dict[str, Any]]) -> None:
    kind, spec = composite
    assert taken(next(api for api in APIS if api.kind == kind), spec)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("PromptApi", {"tenants": [{"name": "Acme"}]}),
        ("PromptApi", {"tenants": [{"name": "acme", "rateLimit": 0}]}),
        ("PromptApi", {"tenants": []}),
        ("PromptApi", {"api": {"memory": 64}}),
        ("PromptApi", {"logRetention": 31}),
        ("PromptApi", {"image": "example.com/api:latest"}),
        ("Storage", {"retention": {"jobs": 1}}),
        ("ModelRuntime", {"engine": "diffusers"}),
        ("ModelRuntime", {"checkpoint": ""}),
        ("ModelRuntime", {"inputBuckets": ["Not_A_Bucket"]}),
    ],
)
def test_what_the_function_refuses_kubernetes_refuses_first(kind: str, change: dict[str, Any]) -> None:
    spec = specs.EXAMPLES[kind] | change
    with pytest.raises(InvalidSpec):
        compose(kind, spec, {})
    assert not taken(next(api for api in APIS if api.kind == kind), spec)


def test_what_kubernetes_cannot_say_is_an_error_with_its_place() -> None:
    class Inner(Description):
        choice: int | str

    class Outer(Description):
        items: tuple[Inner, ...]

    with pytest.raises(ValueError, match=r"^Outer\.items\[\]\.choice: Kubernetes has no choice between types"):
        schemas.structural(Outer)

    class Odd(Description):
        even: Annotated[int, Field(multiple_of=2)]

    with pytest.raises(ValueError, match=r"^Odd\.even: multipleOf has no equivalent"):
        schemas.structural(Odd)


def test_a_field_that_may_be_absent_may_be_null() -> None:
    class Wish(Description):
        size: Annotated[int, Field(ge=1)] | None = None

    assert schemas.structural(Wish)["properties"] == {"size": {"type": "integer", "minimum": 1, "nullable": True}}


def test_a_constant_and_an_excluded_limit_are_said_in_kubernetes_words() -> None:
    class Wish(Description):
        kind: Literal["wish"]
        size: Annotated[float, Field(gt=0, lt=1)]

    assert schemas.structural(Wish)["properties"] == {
        "kind": {"type": "string", "enum": ["wish"]},
        "size": {
            "type": "number",
            "minimum": 0,
            "exclusiveMinimum": True,
            "maximum": 1,
            "exclusiveMaximum": True,
        },
    }
