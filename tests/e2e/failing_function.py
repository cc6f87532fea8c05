"""The composition function with a defect: whatever it is asked to compose, it fails.

``python -m tests.e2e.failing_function`` serves it, with the options of ``darkroom_function``.
"""

from typing import Any, NoReturn

from darkroom_function import server
from darkroom_function.__main__ import main


def compose(*_arguments: Any) -> NoReturn:
    raise ZeroDivisionError


if __name__ == "__main__":
    server.compose = compose  # type: ignore[assignment, attr-defined]
    main()
