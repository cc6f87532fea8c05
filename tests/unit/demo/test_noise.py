import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom_demo.diffusion.noise import Noise

SEEDS = st.integers(-(2**63), 2**64 - 1)


@pytest.mark.parametrize(
    ("seed", "index", "expected"),
    [
        (0, 0, "158c823fc05be8bfe86a1b3f736811c0840d3f3fe09c913e"),
        (42, 0, "c1caa13d8a8e04bfd7346f3c88856a3f257582bd5839b4be"),
        (42, 1, "228eb5be6e34903f780b84be60e510be242802400a6872bf"),
        (2**64 - 1, 7, "250681bfb07280bfdbf97ebe075fb8bff4fd14bfa913503c"),
    ],
)
def test_noise_is_the_same_bit_for_bit_on_every_machine(seed: int, index: int, expected: str) -> None:
    drawn = Noise(seed, index).draw(2, 3)
    assert drawn.dtype == np.float32
    assert drawn.astype("<f4").tobytes().hex() == expected


def test_noise_is_normal() -> None:
    drawn = Noise(7).draw(200_000)
    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.std() - 1) < 0.01
    for sigmas, share in ((1, 0.6827), (2, 0.9545), (3, 0.9973)):
        assert abs((np.abs(drawn) < sigmas).mean() - share) < 0.003


@given(seed=SEEDS, index=st.integers(0, 4096))
def test_another_seed_or_another_picture_of_a_batch_has_other_noise(seed: int, index: int) -> None:
    drawn = Noise(seed, index).draw(64)
    assert np.array_equal(drawn, Noise(seed, index).draw(64))
    for other in (Noise(seed + 1, index), Noise(seed, index + 1)):
        assert abs(np.corrcoef(drawn, other.draw(64))[0, 1]) < 0.9


def test_what_is_drawn_next_is_new() -> None:
    noise = Noise(7)
    assert not np.array_equal(noise.draw(8, 8), noise.draw(8, 8))


@given(seed=SEEDS, count=st.integers(1, 50))
def test_shares_are_from_0_to_1(seed: int, count: int) -> None:
    shares = Noise(seed).shares(count)
    assert len(shares) == count
    assert all(0 <= share <= 1 for share in shares)


def test_all_shares_are_alike_likely() -> None:
    shares = np.array(Noise(7).shares(100_000))
    assert np.abs(np.histogram(shares, 10, (0, 1))[0] / len(shares) - 0.1).max() < 0.01
