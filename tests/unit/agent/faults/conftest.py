"""What the fault suite adds to the agent's tests: watched GPUs, and an emulator that is more like AWS."""

from collections.abc import Iterator
from threading import Lock
from typing import Any

import pytest
from moto.s3.responses import S3Response
from moto.sqs.models import Queue

from tests.unit.agent.faults.gpu import watched


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The slow suite is skipped, unless it is asked for."""
    if "slow" not in config.getoption("markexpr"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="in the slow suite: make test-slow"))


@pytest.fixture(scope="session", autouse=True)
def _watched_gpus() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("darkroom_demo.sdwebui.processing.generate", watched)
        patch.setattr("darkroom_demo.comfyui.nodes.generate", watched)
        yield


@pytest.fixture(scope="session", autouse=True)
def _atomic_writes() -> Iterator[None]:
    """As S3's are; the emulator's threads would let two conditional writes of one object succeed."""
    put, lock = S3Response.put_object, Lock()

    def put_object(self: S3Response) -> Any:
        with lock:
            return put(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Response, "put_object", put_object)
        yield


@pytest.fixture(scope="session", autouse=True)
def _prompt_receives() -> Iterator[None]:
    """A receive that waits sees a message that becomes visible at once, and not after a second."""
    wait = Queue.wait_for_messages
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Queue, "wait_for_messages", lambda self, timeout: wait(self, 0.05))  # type: ignore[arg-type]
        yield
