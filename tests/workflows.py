"""The ComfyUI workflow of the documentation, for tests."""

import json
from pathlib import Path
from typing import Any

from darkroom.prompting import PLACEHOLDER

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "text-to-image.workflow.json"


def text_to_image(text: str, *, width: int, height: int, steps: int) -> dict[str, Any]:
    """The workflow in API format, with this text and these sizes in pixels."""
    nodes: dict[str, Any] = json.loads(EXAMPLE.read_text().replace(PLACEHOLDER, text))
    nodes["5"]["inputs"].update(width=width, height=height)
    nodes["3"]["inputs"].update(steps=steps)
    return nodes
