"""Writes what the demo draws with: a checkpoint's averaged weights, as small as the package holds them.

`python -m training.export CHECKPOINT [FILE]`
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch

import darkroom_demo.diffusion
from darkroom_demo.diffusion.model import WEIGHTS, packed

PACKAGE = Path(darkroom_demo.diffusion.__path__[0], WEIGHTS)
#: Bytes: every clone of the repository and every image of the demo has the file.
LIMIT = 4_000_000


def export(checkpoint: Path, file: Path) -> None:
    """Write a checkpoint's averaged weights. Raises `ValueError` if they are too large."""
    saved = torch.load(checkpoint)
    buffer = io.BytesIO()
    stored = packed({name: value.numpy() for name, value in saved["average"].items()})
    np.savez_compressed(buffer, allow_pickle=False, **stored)
    if buffer.tell() > LIMIT:
        raise ValueError(f"the weights have {buffer.tell()} bytes; they may have {LIMIT}")
    file.write_bytes(buffer.getvalue())
    print(f"{file}: {buffer.tell()} bytes, of {saved['steps']} steps", flush=True)


def main() -> None:
    """Export what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("file", type=Path, nargs="?", default=PACKAGE)
    args = parser.parse_args()
    export(args.checkpoint, args.file)


if __name__ == "__main__":
    main()
