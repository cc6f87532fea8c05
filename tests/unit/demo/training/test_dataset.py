"""What the model learns from is made alike each time, of the emoji that are pinned."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom_demo.diffusion.colours import COLOURS
from darkroom_demo.diffusion.denoiser import SIDE
from darkroom_demo.diffusion.things import THINGS
from training import dataset
from training.dataset import Poses, emoji_file, pose_all, usual_colours

TRAINING = Path(dataset.__file__).parent
#: Left half opaque red, right half transparent.
HALF_RED = Image.new("RGBA", (16, 16), (255, 0, 0, 255))
HALF_RED.paste((0, 0, 0, 0), (8, 0, 16, 16))


@pytest.fixture(autouse=True)
def few_things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "THINGS", {name: THINGS[name] for name in ("dog", "apple")})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package of emoji that all look alike."""
    for emoji in ("🐕", "🍎", "🍏"):
        HALF_RED.save(tmp_path / f"{ord(emoji):x}.webp", lossless=True)
    return tmp_path


@pytest.fixture
def posed(folder: Path) -> Poses:
    return pose_all(folder, 2, seed=0)


def test_every_thing_is_there_in_each_of_its_colours(posed: Poses) -> None:
    names = [*COLOURS, "no name"]
    assert posed.pictures.shape == (3, 2, SIDE, SIDE, 4)
    assert posed.thing.tolist() == [0, 1, 1]
    assert [names[colour] for colour in posed.colour] == ["no name", "red", "green"]


def test_the_first_pose_is_upright_and_in_the_middle(posed: Poses) -> None:
    first = posed.pictures[0, 0]
    assert first[SIDE // 2, SIDE // 4].tolist() == [255, 0, 0, 255]
    assert first[SIDE // 2, 3 * SIDE // 4, 3] == 0
    assert np.array_equal(first, first[::-1])


def test_the_same_seed_gives_the_same_poses(folder: Path, posed: Poses) -> None:
    assert np.array_equal(posed.pictures, pose_all(folder, 2, seed=0).pictures)


def test_other_poses_differ_and_another_seed_gives_others(folder: Path, posed: Poses) -> None:
    others = pose_all(folder, 2, seed=1).pictures
    assert not np.array_equal(posed.pictures[:, 0], posed.pictures[:, 1])
    assert np.array_equal(posed.pictures[:, 0], others[:, 0])
    assert not np.array_equal(posed.pictures[:, 1], others[:, 1])


def test_lightness_is_that_of_what_can_be_seen(posed: Poses) -> None:
    assert posed.pivot == pytest.approx(0.299, abs=0.001)


def test_the_usual_colour_of_a_thing_is_that_of_its_own_emoji() -> None:
    assert usual_colours() == [len(COLOURS), list(COLOURS).index("red")]


@pytest.mark.parametrize("name", ["2600.webp", "2600-fe0f.webp"])
def test_an_emoji_is_found_with_and_without_its_variation_selector(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert emoji_file(tmp_path, "☀️").name == name


def test_an_emoji_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no picture of ☀️"):
        emoji_file(tmp_path, "☀️")


def test_the_emoji_are_locked_by_their_hash_and_name_no_registry() -> None:
    wanted = json.loads((TRAINING / "package.json").read_text())["dependencies"]
    locked = json.loads((TRAINING / "package-lock.json").read_text())["packages"]
    assert wanted == {name: locked[f"node_modules/{name}"]["version"] for name in wanted}
    for name, package in locked.items():
        assert not name or package["integrity"].startswith("sha512-")
        assert "resolved" not in package
