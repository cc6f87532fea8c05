"""What the stand-in of the kubelet runs for an image: a program of the machine, with what an image says of it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: Where the programs of images find what they run.
REPOSITORY = Path(__file__).parents[3]
#: The folders that every container sees of the machine's Python, wherever they are.
PROGRAMS = tuple(dict.fromkeys((REPOSITORY, Path(sys.base_prefix), Path(sys.prefix))))

_PATH = f"{Path(sys.prefix, 'bin')}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """An image: ENTRYPOINT, CMD, ENV, USER and WORKDIR of its Dockerfile."""

    entrypoint: tuple[str, ...]
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: int = 0
    group: int = 0
    working_directory: str = "/"

    @property
    def variables(self) -> dict[str, str]:
        """Its environment, with the path to the programs."""
        return {"PATH": _PATH, **self.environment}


#: The agent's image: the real code.
AGENT = Image(("python", "-m", "darkroom_agent"), user=65532, group=65532)


def engine(name: str, *, seconds_per_step: float = 0.0, load_seconds: float = 0.0) -> Image:
    """The image of an engine, ``webui`` or ``comfyui``: the demo runtime with that engine's own command line."""
    return Image(
        ("python", "-m", f"tests.e2e.kubelet.images.{name}"),
        environment={
            "PYTHONPATH": str(REPOSITORY),
            "SD_DEMO_SECONDS_PER_STEP": str(seconds_per_step),
            "SD_DEMO_LOAD_SECONDS": str(load_seconds),
        },
        user=65532,
        group=65532,
    )
