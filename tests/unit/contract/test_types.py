"""The grammar: what ids, prefixes and contents may be."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from darkroom_contract.job import new_job_id
from darkroom_contract.types import Engine, Identifier, JsonObject, Prefix, RuntimeName, Task

IDENTIFIER, PREFIX, RUNTIME = TypeAdapter(Identifier), TypeAdapter(Prefix), TypeAdapter(RuntimeName)
CONTENT: TypeAdapter[dict[str, Any]] = TypeAdapter(JsonObject)


def accepts(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


@given(st.text())
def test_an_id_is_letters_digits_hyphens_and_underscores(text: str) -> None:
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
    assert accepts(IDENTIFIER, text) == (1 <= len(text) <= 128 and set(text) <= allowed)


def test_a_line_break_at_its_end_is_no_part_of_an_id() -> None:
    assert not accepts(IDENTIFIER, "abc\n")


def test_the_ids_that_we_make_are_ids() -> None:
    assert accepts(IDENTIFIER, new_job_id())


@given(st.text(alphabet="ab./ _-", max_size=12))
def test_a_prefix_never_leads_out_of_its_folder(text: str) -> None:
    if accepts(PREFIX, text):
        segments = PREFIX.validate_python(text).split("/")
        assert all(segment not in ("", ".", "..") for segment in segments)


@pytest.mark.parametrize("prefix", ["", "/", "/a", "a//b", "..", "a/../b", "./a", "a b", "ä", "a\\b", "a?b", "x" * 513])
def test_a_prefix_outside_the_grammar_is_refused(prefix: str) -> None:
    assert not accepts(PREFIX, prefix)


def test_a_slash_at_the_end_of_a_prefix_does_not_count() -> None:
    assert PREFIX.validate_python("out/2026/") == "out/2026"


@pytest.mark.parametrize(
    ("name", "fine"), [("sdxl", True), ("a" * 32, True), ("a" * 33, False), ("a-", False), ("3d", False)]
)
def test_a_runtime_is_named_by_a_dns_label(name: str, fine: bool) -> None:
    assert accepts(RUNTIME, name) is fine


@pytest.mark.parametrize("text", ['{"a": 1e999}', '{"a": [{"b": NaN}]}', '{"\\ud800": 1}', '{"a": ["\\udc00"]}'])
def test_a_content_that_no_runtime_could_read_is_refused(text: str) -> None:
    assert not accepts(CONTENT, json.loads(text))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_every_finite_object_is_a_content_and_stays_as_it_is(content: dict[str, Any]) -> None:
    assert CONTENT.validate_python(content) == content


def test_the_guidances_spelling_of_a_task_is_known() -> None:
    assert TypeAdapter(Task).validate_python("extra-batch-image") is Task.EXTRA_BATCH_IMAGES


def test_comfyui_runs_workflows_and_the_web_ui_the_rest() -> None:
    assert {task for task in Task if Engine.COMFYUI.runs(task)} == {Task.PIPELINE}
    assert {task for task in Task if Engine.SDWEBUI.runs(task)} == set(Task) - {Task.PIPELINE}
