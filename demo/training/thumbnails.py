"""Thumbnails of all things, which a drawn picture is compared with where there are no emoji: in the tests.

`python -m training.thumbnails [FILE]` makes them of the emoji, and says how often the emoji in other poses are nearest
to their own. What compares needs neither the emoji nor torch.
"""

import argparse
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from darkroom_demo.diffusion.colours import COLOURS
from darkroom_demo.diffusion.things import THINGS
from training.dataset import EMOJI, pose_all

Thumbnails: TypeAlias = NDArray[np.uint8]

THUMBNAILS = Path("tests/unit/demo/thumbnails.npz")
#: Pixels.
SIDE = 12
#: What is behind the things.
BACKDROP = "white"
_HELD_OUT_POSES, _HELD_OUT_SEED = 3, 1


def thumbnail(image: Image.Image) -> Thumbnails:
    """Return a picture as small as thumbnails are; what is transparent shows the backdrop: (SIDE, SIDE, 3)."""
    behind = Image.new("RGBA", image.size, tuple(round(255 * share) for share in COLOURS[BACKDROP]))
    opaque = Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")
    return np.asarray(opaque.resize((SIDE, SIDE), Image.Resampling.BOX))


def nearest(picture: Thumbnails, thumbnails: Thumbnails) -> str:
    """Return the thing whose thumbnail has the least squared difference to a picture's."""
    differences = thumbnails.astype(np.float64) - picture
    return list(THINGS)[int((differences**2).mean(axis=(1, 2, 3)).argmin())]


def load(file: Path = THUMBNAILS) -> Thumbnails:
    """Return the thumbnails in the order of the things: (things, SIDE, SIDE, 3)."""
    with np.load(file) as stored:
        thumbnails: Thumbnails = stored["thumbnails"]
    return thumbnails


def main() -> None:
    """Write the thumbnails, and say how well they tell things apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=THUMBNAILS)
    parser.add_argument("--emoji", type=Path, default=EMOJI, help="folder of the emoji's pictures")
    args = parser.parse_args()
    posed = pose_all(args.emoji, 1 + _HELD_OUT_POSES, _HELD_OUT_SEED)
    # Of a thing's emoji the first is the one in its usual colour.
    rows = [int(np.argmax(posed.thing == thing)) for thing in range(len(THINGS))]
    small = np.array([[thumbnail(Image.fromarray(pose)) for pose in posed.pictures[row]] for row in rows])
    thumbnails, held_out = small[:, 0], small[:, 1:]
    np.savez_compressed(args.file, thumbnails=thumbnails)
    found = [nearest(pose, thumbnails) == name for name, poses in zip(THINGS, held_out, strict=True) for pose in poses]
    print(f"{args.file}: {len(thumbnails)} things; {np.mean(found):.1%} of other poses are nearest to their own")


if __name__ == "__main__":
    main()
