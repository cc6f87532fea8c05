"""Children that end are started again within a limit, and engines are restarted when their agents say so."""

from pathlib import Path

import pytest

from darkroom.local.kubelet import Restarts, is_distrusted
from darkroom.local.processes import Child, ProcessFailed
from darkroom_agent.health import serving_health


class Time:
    now = 1000.0


@pytest.fixture
def ended(tmp_path: Path) -> Child:
    """A child that has ended."""
    (tmp_path / "module.py").write_text("print('the disk is full')")
    child = Child("child", ["module"], {"PYTHONPATH": str(tmp_path)}, tmp_path / "child.log")
    child.wait()
    child.stop()
    return child


def test_a_child_that_ends_again_and_again_is_given_up_with_the_limit_and_its_log(ended: Child) -> None:
    restarts = Restarts(lambda: Time.now)
    for _ in range(3):
        assert restarts.has_to_restart(ended)
    with pytest.raises(ProcessFailed) as failure:
        restarts.has_to_restart(ended)
    said = str(failure.value)
    assert "child ended again and again: it was started 3 times more" in said
    assert str(ended.log_path) in said
    assert "the disk is full" in said


def test_restarts_are_forgotten_after_a_minute_without_one(ended: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    restarts = Restarts(lambda: Time.now)
    for _ in range(3):
        for _ in range(3):
            assert restarts.has_to_restart(ended)
        monkeypatch.setattr(Time, "now", Time.now + 61)
    assert restarts.has_to_restart(ended)


def test_restarts_of_one_child_are_not_those_of_another(ended: Child, tmp_path: Path) -> None:
    restarts = Restarts(lambda: Time.now)
    other = Child("other", ["module"], {"PYTHONPATH": str(tmp_path)}, tmp_path / "other.log")
    other.wait()
    other.stop()
    for child in (ended, other):
        for _ in range(3):
            assert restarts.has_to_restart(child)


@pytest.mark.parametrize("trusted", [True, False])
def test_an_agent_says_whether_its_engine_has_to_be_restarted(trusted: bool) -> None:
    with serving_health(0, {"/livez/engine": lambda: trusted}) as port:
        assert is_distrusted(f"http://127.0.0.1:{port}") is not trusted


def test_an_agent_that_says_nothing_does_not_say_so() -> None:
    with serving_health(0, {}) as port:
        url = f"http://127.0.0.1:{port}"
        assert not is_distrusted(url)
    assert not is_distrusted(url)
