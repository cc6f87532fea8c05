"""The engines that a runtime may run, each behind the same small interface."""

from darkroom_agent.engines.base import RuntimeEngine
from darkroom_agent.engines.comfyui import ComfyUI
from darkroom_agent.engines.sdwebui import WebUI
from darkroom_agent.settings import Settings
from darkroom_contract.types import Engine


def engine_of(settings: Settings) -> RuntimeEngine:
    """The client of the runtime's engine."""
    if settings.engine is Engine.COMFYUI:
        return ComfyUI(settings)
    return WebUI(settings)
