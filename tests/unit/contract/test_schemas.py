"""The published schemas are the models', and say what the models say."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from darkroom_contract import openapi, schemas
from darkroom_contract.errors import ErrorResponse
from tests.unit.contract.test_jobs import v1alpha1_body

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "contract" / "schemas"


@pytest.mark.parametrize("name", schemas.documents())
def test_the_published_schemas_are_current(name: str) -> None:
    assert json.loads((PUBLISHED / name).read_text()) == schemas.documents()[name], "run make schemas"


@pytest.mark.parametrize("name", schemas.chart_documents())
def test_the_schemas_of_the_charts_values_are_current(name: str) -> None:
    assert json.loads((ROOT / "apps" / name).read_text()) == schemas.chart_documents()[name], "run make schemas"


@pytest.mark.parametrize("name", ["cluster", "images", "runtime", "workflows"])
def test_a_file_has_one_key_and_no_field_that_is_not_described(name: str) -> None:
    def objects(schema: Any) -> list[dict[str, Any]]:
        parts = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
        inner = [each for part in parts for each in objects(part)]
        return [schema, *inner] if isinstance(schema, dict) and "properties" in schema else inner

    schema = schemas.documents()[f"{name}.schema.json"]
    assert list(schema["properties"]) == schema["required"] == [name]
    assert all(part["additionalProperties"] is False for part in objects(schema))


def test_go_which_helm_is_written_in_can_read_every_pattern() -> None:
    patterns: set[str] = set()

    def note(part: dict[str, Any]) -> dict[str, Any]:
        patterns.update(pattern for pattern in (part.get("pattern"),) if isinstance(pattern, str))
        return part

    json.loads(json.dumps(schemas.chart_documents()), object_hook=note)
    assert patterns
    assert not [pattern for pattern in patterns if "(?" in pattern or re.search(r"\\[1-9]", pattern)]


@pytest.mark.parametrize(
    ("runtime", "wrong"),
    [
        ({"engine": "sdwebui", "checkpoint": None, "resources": {"cpu": 4}}, None),
        ({"engine": "sdwebui", "checkpoint": "a.safetensors", "resources": {"cpu": "3500m"}}, None),
        ({"engine": "sdwebui", "checkpoint": "/a"}, ["runtime", "checkpoint"]),
        ({"engine": "sdwebui", "image": "latest"}, ["runtime", "image"]),
        ({"engine": "sdwebui", "resources": {"cpu": []}}, ["runtime", "resources", "cpu"]),
    ],
)
def test_helm_says_of_an_optional_field_only_why_its_value_does_not_fit(
    runtime: dict[str, Any], wrong: list[str] | None
) -> None:
    cluster = {"name": "ours", "account": "123456789012", "region": "eu-west-1", "eksName": "ours"}
    schema = schemas.chart_documents()["sd-runtime/values.schema.json"]
    values = {"name": "sdxl", "cluster": cluster, "runtime": runtime}
    errors = list(Draft202012Validator(schema).iter_errors(values))
    assert [list(error.absolute_path) for error in errors] == ([wrong] if wrong else [])


def test_nothing_else_is_published() -> None:
    assert {path.name for path in PUBLISHED.iterdir()} == set(schemas.documents())


def test_the_openapi_document_is_one() -> None:
    validate(openapi.document("arn:aws:apigateway:…", "Darkroom"))


def test_the_openapi_document_has_no_word_that_openapi_30_lacks() -> None:
    def words(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(words, value))
        if isinstance(value, dict):
            return set(value).union(*map(words, value.values()))
        return set()

    document = openapi.document("arn:aws:apigateway:…", "Darkroom")["components"]["schemas"]
    assert not words(document) & {"const", "$defs", "prefixItems", "examples"}
    assert '"null"' not in json.dumps(document)
    assert all(name.isalnum() for name in document)


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("INVALID_API_KEY", "403", "forbidden"),
        ("ACCESS_DENIED", "403", "forbidden"),
        ("MISSING_AUTHENTICATION_TOKEN", "404", "unknown_route"),
        ("REQUEST_TOO_LARGE", "413", "too_large"),
        ("THROTTLED", "429", "too_many_requests"),
        ("QUOTA_EXCEEDED", "429", "too_many_requests"),
        ("INTEGRATION_FAILURE", "503", "unavailable"),
        ("INTEGRATION_TIMEOUT", "504", "timeout"),
        ("DEFAULT_4XX", None, "invalid_field"),
        ("DEFAULT_5XX", None, "internal"),
    ],
)
def test_what_api_gateway_answers_by_itself_is_an_error_of_ours(kind: str, status: str | None, code: str) -> None:
    document = openapi.gateway_document("arn:aws:apigateway:…", "Darkroom")
    response = document["x-amazon-apigateway-gateway-responses"][kind]
    assert response.get("statusCode") == status
    ((content_type, body),) = response["responseTemplates"].items()
    assert content_type == "application/json"
    assert ErrorResponse.model_validate_json(body).error.code == code


def test_a_v1alpha1_body_fits_its_published_schema() -> None:
    schema = json.loads((PUBLISHED / "v1alpha1.schema.json").read_text())
    Draft202012Validator(schema).validate(v1alpha1_body())


def test_an_equal_document_is_an_equal_text() -> None:
    assert openapi.text("arn", "t") == openapi.text("arn", "t")
