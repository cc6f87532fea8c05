"""The ``darkroom`` command: what can be typed after it."""

from collections import UserDict
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

#: Where each command is in ``darkroom.commands``: a function, or a group of its own.
_COMMANDS = {
    "prompt": "jobs.prompt",
    "cancel": "jobs.cancel",
    "local": "local.local",
    "demo": "local.demo",
    "validate": "clusters.validate",
    "pin": "pin.pin",
    "bootstrap": "bootstrap.bootstrap",
    "boundaries": "bootstrap.boundaries",
    "destroy": "destroy.destroy",
    "doctor": "doctor.doctor",
    "smoke": "doctor.run_smoke",
    "runtime": "runtimes.app",
    "matrix": "matrix.app",
    "models": "models.app",
    "image-cache": "image_cache.app",
}


class _Imported(UserDict[str, Any]):
    """Commands that are imported when they are asked for: the local stack's emulator takes longer than most run."""

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = self.data[name].partition(".")
        found = getattr(import_module(f"darkroom.commands.{module}"), attribute)
        alone = typer.Typer(rich_markup_mode="markdown")  # its paragraphs are as wide as the terminal
        if isinstance(found, typer.Typer):
            alone.add_typer(found, name=name)
        else:
            alone.command(name)(found)
        return get_group(alone).commands[name]


class _Group(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Imported(_COMMANDS)


app = typer.Typer(cls=_Group, no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)


@app.callback()
def darkroom() -> None:
    """Pictures by Stable Diffusion in your own AWS account, or on this computer."""
