"""The API's examples in the pages, sent to the local stack as they stand."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import Block, blocks
from tests.flow.flow import Flow

CURLS = [block for block in blocks("sh") if "curl " in block.text and "$DARKROOM_URL" in block.text]
REQUESTS = [
    block
    for block in blocks("json")
    if block.page in ("docs/api.md", "docs/workflows.md") and '"runtime"' in block.text and '"result"' not in block.text
]


@pytest.mark.parametrize("block", CURLS, ids=str)
def test_what_a_page_sends_by_curl_is_answered(flow: Flow, tmp_path: Path, block: Block) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DARKROOM_URL": flow.stack.url,
        "DARKROOM_API_KEY": flow.stack.api_keys["default"],
    }
    script = "curl() { command curl --silent --show-error --fail-with-body --noproxy '*' \"$@\" || exit; echo; }\n"
    run = subprocess.run(
        ["bash", "-c", script + block.text], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    answers = [json.loads(line) for line in run.stdout.splitlines() if line]
    assert len(answers) == block.text.count("curl ")
    assert {answer["id"] for answer in answers} == {answers[0]["id"]}


@pytest.mark.parametrize("block", REQUESTS, ids=str)
def test_a_request_of_a_page_is_refused_for_nothing_but_its_runtime(flow: Flow, block: Block) -> None:
    request: dict[str, Any] = json.loads(block.text)
    answer = flow.post("v1/jobs", request)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_runtime")


def test_the_pages_have_examples_of_both_kinds() -> None:
    assert CURLS
    assert REQUESTS
