"""The local stack is found while it runs, and only then."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from darkroom import endpoint
from darkroom.endpoint import LocalStack
from darkroom.trouble import UsageError

STACK = LocalStack("local", "http://127.0.0.1:1/prod", "key", "http://127.0.0.1:1")
DARKROOM = Path(sys.executable).with_name("darkroom")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, and no deployment in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("DARKROOM_URL", "DARKROOM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_it_is_found_once_it_is_up_and_until_it_ends() -> None:
    assert endpoint.find() is None
    with endpoint.reserved() as publish:
        assert endpoint.find() is None
        publish(STACK)
        assert endpoint.find() == STACK
    assert endpoint.find() is None


def test_one_runs_in_a_folder() -> None:
    with endpoint.reserved() as publish:
        publish(STACK)
        with pytest.raises(UsageError, match="runs in this folder already"), endpoint.reserved():
            pass
        assert endpoint.find() == STACK


def test_what_one_that_was_killed_left_behind_counts_for_nothing(folder: Path) -> None:
    file = folder / ".demo" / "endpoint.json"
    file.parent.mkdir()
    file.write_text(json.dumps(asdict(STACK)))
    assert endpoint.find() is None
    with endpoint.reserved() as publish:
        publish(STACK)
        assert endpoint.find() == STACK


def test_a_prompt_does_not_wait_for_a_local_stack_that_has_stopped() -> None:
    with endpoint.reserved() as publish:
        publish(STACK)
        prompt = subprocess.Popen([DARKROOM, "prompt", "webui", "a"], stdout=subprocess.PIPE, text=True)
        assert prompt.stdout is not None
        assert "the API cannot answer now" in prompt.stdout.readline()
    said, _ = prompt.communicate(timeout=60)
    assert prompt.returncode == 1
    assert "the local stack has stopped" in said
