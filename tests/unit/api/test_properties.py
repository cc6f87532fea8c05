"""What holds for every body, prefix and id."""

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from darkroom_contract.types import Task
from tests.unit.api.conftest import CHECKPOINT, OUTPUTS, Cloud
from tests.unit.api.events import (
    V1,
    V1ALPHA1,
    V1ALPHA2,
    Answer,
    event,
    get,
    invoke,
    post,
    v1_body,
    v1alpha1_body,
    v1alpha2_body,
)

pytestmark = pytest.mark.usefixtures("cloud")
SETTINGS = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

RESOURCES = st.sampled_from([V1ALPHA1, V1ALPHA2, V1])
#: Words that lead deeper into the function than any text would.
WORDS = ["sdxl", "flux", "closed", "studio", CHECKPOINT, "content", "prompt", "http://10.0.0.1/", *Task]
TEXT = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(WORDS)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def nearly_right(draw: st.DrawFn) -> tuple[str, Any]:
    """A right request in which something was replaced, added or left out."""
    resource = draw(RESOURCES)
    bodies: dict[str, dict[str, Any]] = {V1ALPHA1: v1alpha1_body(), V1ALPHA2: v1alpha2_body(), V1: v1_body()}
    body = here = bodies[resource]
    while True:
        name = draw(st.sampled_from(sorted(here)))
        if not isinstance(here[name], dict) or draw(st.booleans()):
            break
        here = here[name]
    match draw(st.sampled_from(["replace", "add", "remove"])):
        case "replace":
            here[name] = draw(JSON)
        case "add":
            here[draw(TEXT)] = draw(JSON)
        case "remove":
            del here[name]
    return resource, body


def assert_is_an_answer(answer: Answer) -> None:
    if answer.status in (200, 202):
        assert "output_location" in answer.body
        return
    assert answer.status in (400, 403, 404, 409, 413, 415, 422, 429, 503)
    assert set(answer.error) <= {"code", "message", "field"}
    assert answer.error["message"]


@SETTINGS
@given(resource=RESOURCES, body=JSON)
def test_any_json_gets_an_answer(resource: str, body: Any) -> None:
    assert_is_an_answer(post(resource, body))


@SETTINGS
@given(request=nearly_right())
def test_a_request_that_is_nearly_right_gets_an_answer(request: tuple[str, Any]) -> None:
    assert_is_an_answer(post(*request))


@SETTINGS
@given(resource=RESOURCES, body=st.text(max_size=50), is_base64=st.booleans())
def test_any_text_gets_an_answer(resource: str, body: str, is_base64: bool) -> None:
    assert_is_an_answer(invoke(event("POST", resource, body, is_base64=is_base64)))


@SETTINGS
@given(
    prefix=st.text(st.sampled_from("aZ9/._-+ é~%\n\\"), max_size=12)
    | st.sampled_from(["studio", "studio/a", "a/studio"])
)
@example(prefix="a/")
@example(prefix="a//")
@example(prefix="a/./b")
@example(prefix="..")
@example(prefix="a" * 512)
@example(prefix="a" * 513)
def test_a_prefix_is_the_folder_of_the_pictures_or_refused(prefix: str) -> None:
    segments = prefix.removesuffix("/").split("/")
    right = (
        re.fullmatch(r"[A-Za-z0-9!_.*'()=@+/-]{1,512}", prefix) is not None
        and not {"", ".", ".."} & set(segments)
        and segments[0] != "studio"
    )
    answer = post(V1ALPHA2, v1alpha2_body(prefix=prefix))
    if right:
        assert answer.body["output_location"] == f"s3://{OUTPUTS}/{'/'.join(segments)}/order-1"
    else:
        assert (answer.status, answer.error["field"]) == (422, "task.metadata.prefix")


@SETTINGS
@given(job_id=st.text(st.sampled_from("aZ9-_/. é٣\n"), max_size=8))
@example(job_id="a" * 128)
@example(job_id="a" * 129)
def test_an_id_is_within_the_grammar_or_refused(job_id: str) -> None:
    right = re.fullmatch(r"[A-Za-z0-9_-]{1,128}", job_id) is not None
    assert get(job_id).status == (404 if right else 422)
    answer = post(V1ALPHA2, v1alpha2_body(id=job_id))
    assert answer.status == (200 if right else 422)
    assert (answer.body["id"] == job_id) if right else (answer.error["field"] == "task.metadata.id")


@SETTINGS
@given(content=st.dictionaries(TEXT, JSON, max_size=3))
def test_a_content_arrives_as_it_was_sent(cloud: Cloud, content: dict[str, Any]) -> None:
    cloud.envelopes().clear()
    answer = post(V1, v1_body(task="extra-single-image", content=content))
    if answer.status == 202:
        [received] = cloud.published()
        assert json.dumps(received.message.content) == json.dumps(content)
    else:
        assert answer.status == 422
