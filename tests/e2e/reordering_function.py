"""The composition function as another version of it might be: the same composed, in another order.

``python -m tests.e2e.reordering_function`` serves it, with the options of ``darkroom_function``.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from darkroom_function import compositions, server
from darkroom_function.__main__ import main
from darkroom_function.managed import Composed, Observed


def compose(kind: str, spec: Mapping[str, Any], observed: Observed) -> Composed[Any]:
    composed = compositions.compose(kind, _reversed(spec), observed)
    return dataclasses.replace(composed, resources=dict(reversed(composed.resources.items())))


def _reversed(value: Any) -> Any:
    """Objects with their fields the other way round."""
    return {key: _reversed(value[key]) for key in reversed(value)} if isinstance(value, dict) else value


if __name__ == "__main__":
    server.compose = compose  # type: ignore[attr-defined]
    main()
