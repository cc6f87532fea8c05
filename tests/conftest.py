"""What holds for all tests."""

import logging
from collections.abc import Iterator

import pytest

# If nobody listens when it first speaks, werkzeug, which the emulators are served by, listens to itself: on the stderr
# of that moment, which may be a test's own and closed soon after. From then on each request complains of it aloud.
logging.getLogger("werkzeug").addHandler(logging.NullHandler())


@pytest.fixture(autouse=True)
def _log_handlers() -> Iterator[None]:
    """What a program that ran inside a test added to the root logger writes to the test's own, soon closed stdout."""
    before = list(logging.root.handlers)
    yield
    logging.root.handlers = [handler for handler in logging.root.handlers if handler in before]
