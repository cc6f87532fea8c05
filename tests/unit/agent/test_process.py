"""The agent as a process: its environment, its logs, its end."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from queue import Queue
from typing import Any

import pytest

from tests.unit.agent.pictures_host import PicturesHost
from tests.unit.agent.support import DEADLINE, SMALL, Cloud, guidance_message

COMMAND = [sys.executable, "-m", "darkroom_agent"]


class Process:
    """An agent's process and its log."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(COMMAND, env=environment, stdout=subprocess.PIPE, text=True)
        self.lines: list[dict[str, Any]] = []
        self._queue: Queue[dict[str, Any]] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(json.loads(line))

    def wait_for(self, event: str) -> dict[str, Any]:
        while True:
            line = self._queue.get(timeout=DEADLINE)
            self.lines.append(line)
            if line["event"] == event:
                return line


@pytest.fixture
def environment(cloud: Cloud, webui: str) -> dict[str, str]:
    return cloud.environment("sdwebui", webui, LOG_LEVEL="DEBUG")


@pytest.fixture
def process(environment: dict[str, str]) -> Iterator[Process]:
    started = Process(environment)
    yield started
    started.process.kill()
    started.process.wait()


def test_the_process_works_until_sigterm_and_exits_with_zero(cloud: Cloud, process: Process) -> None:
    process.wait_for("runtime ready")
    cloud.send(guidance_message(SMALL))
    assert cloud.notification()["status"] == "completed"
    process.process.terminate()
    assert process.wait_for("stopping")["signal"] == "SIGTERM"
    assert process.process.wait(DEADLINE) == 0


def test_a_log_line_names_the_job_and_says_nothing_of_its_content(
    cloud: Cloud, process: Process, host: PicturesHost
) -> None:
    content = {**SMALL, "prompt": "secret prompt", "init_images": [host.url("/a.png?X-Amz-Signature=secret")]}
    process.wait_for("runtime ready")
    failed = cloud.send(guidance_message(content, "image-to-image"))
    assert cloud.notification()["status"] == "failed"
    line = process.wait_for("job failed")
    assert (line["job_id"], line["tenant"], line["runtime"]) == (failed, "default", "sdxl")
    assert (line["error"], line["field"]) == ("input_unavailable", "content.init_images[0]")
    cloud.send(guidance_message({**SMALL, "prompt": "secret prompt", "sampler_name": "secret sampler"}))
    cloud.send(guidance_message({**SMALL, "prompt": "secret prompt"}))
    process.wait_for("job completed")
    assert "secret" not in json.dumps(process.lines)


def test_a_wrong_setting_is_named_and_the_process_does_not_start(environment: dict[str, str]) -> None:
    wrong = {**environment, "ENGINE": "fooocus", "MAX_STARTS": "none"}
    del wrong["QUEUE_URL"]
    ended = subprocess.run(COMMAND, env=wrong, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert ended.returncode == 2
    for name in ("QUEUE_URL", "ENGINE", "MAX_STARTS"):
        assert name in ended.stderr


def test_a_visibility_that_a_receive_would_outlast_is_refused(environment: dict[str, str]) -> None:
    wrong = {**environment, "VISIBILITY_TIMEOUT_SECONDS": "5", "RECEIVE_WAIT_SECONDS": "5"}
    ended = subprocess.run(COMMAND, env=wrong, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert ended.returncode == 2
    assert "VISIBILITY_TIMEOUT_SECONDS" in ended.stderr
    assert "RECEIVE_WAIT_SECONDS" in ended.stderr


@pytest.mark.parametrize(
    ("change", "event"),
    [
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}, "AWS_REGION is not set"),
        ({"HEALTH_PORT": "taken"}, "HEALTH_PORT is taken"),
    ],
)
def test_what_keeps_the_process_from_starting_is_one_line_of_the_log(
    environment: dict[str, str], change: dict[str, str], event: str
) -> None:
    with socket.create_server(("", 0)) as taken:
        port = str(taken.getsockname()[1])
        changed = {name: port if value == "taken" else value for name, value in change.items()}
        wrong = {name: value for name, value in {**environment, **changed}.items() if value}
        ended = subprocess.run(COMMAND, env=wrong, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert ended.returncode == 2
    assert ended.stderr == ""
    assert json.loads(ended.stdout.splitlines()[-1])["event"] == event
