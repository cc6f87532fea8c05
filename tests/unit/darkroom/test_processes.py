"""Child processes say where they listen, and end when they are told to or when their parent is gone."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from darkroom.local import processes
from darkroom.local.processes import Child, ProcessFailed

LISTENS = """
import sys, threading
print('{"event": "listening", "url": "http://127.0.0.1:1"}', flush=True)
threading.Event().wait()
"""
STOPS_BY_ITSELF = """
import pathlib, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print('{"event": "listening", "url": "http://127.0.0.1:1"}', flush=True)
signal.sigwait({signal.SIGTERM})
pathlib.Path(__file__).with_name("stopped").touch()
"""
PARENT = """
import sys
from pathlib import Path
from darkroom.local.processes import Child
child = Child("child", ["module"], {"PYTHONPATH": sys.argv[1]}, Path(sys.argv[1], "child.log"))
child.url()
print(child.pid, flush=True)
sys.stdin.read()
"""

Start = Callable[[str], Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a module, given its source, as a child."""
    children = []

    def start(source: str) -> Child:
        (tmp_path / "module.py").write_text(source)
        children.append(Child("child", ["module"], {"PYTHONPATH": str(tmp_path)}, tmp_path / "child.log"))
        return children[-1]

    yield start
    processes.stop_all(children)


def test_only_an_announcement_is_taken_for_one(start: Start) -> None:
    noise = r"""
import os
os.write(1, b'caf\xe9\n')
print('listening on "listening" {')
print('["event", "listening"]')
print('{"event": "request", "path": "listening"}')
"""
    child = start(noise + LISTENS)
    assert child.url() == "http://127.0.0.1:1"
    assert "caf\ufffd" in child.log_tail()


def test_a_child_that_ends_before_it_listens_is_shown_with_its_log(start: Start) -> None:
    with pytest.raises(ProcessFailed, match=r"child did not start:\n(.*\n)*the port is taken"):
        start("raise SystemExit('the port is taken')").url()


def test_a_child_is_given_the_time_to_stop_by_itself(start: Start, tmp_path: Path) -> None:
    child = start(STOPS_BY_ITSELF)
    child.url()
    child.stop()
    assert child.wait() == 0
    assert (tmp_path / "stopped").exists()


def test_a_child_that_does_not_stop_is_killed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.1)
    child = start("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)" + LISTENS)
    child.url()
    child.stop()
    assert not child.running


def test_a_child_knows_nothing_of_the_users_aws_settings(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    child = start("import os\nprint([name for name in os.environ if name.startswith('AWS_')])")
    child.wait()
    child.stop()
    assert child.log_tail() == "[]"


@pytest.mark.parametrize(("source", "stops_by_itself"), [(LISTENS, False), (STOPS_BY_ITSELF, True)])
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path, source: str, stops_by_itself: bool) -> None:
    (tmp_path / "module.py").write_text(source)
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    _, alive = psutil.wait_procs([child], timeout=60)
    assert not alive
    assert (tmp_path / "stopped").exists() is stops_by_itself
