"""The published schemas are the models', and say what the models say."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from darkroom_contract import openapi, schemas
from darkroom_contract.errors import ErrorResponse
from tests.unit.contract.test_jobs import v1alpha1_body

PUBLISHED = Path(__file__).parents[3] / "contract" / "schemas"


@pytest.mark.parametrize("name", schemas.documents())
def test_the_published_schemas_are_current(name: str) -> None:
    assert json.loads((PUBLISHED / name).read_text()) == schemas.documents()[name], "run make schemas"


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
