"""Trains the denoiser on the CPU. What was reached is kept every few minutes; the next run goes on from there.

`python -m training.train`: --help says with what. It writes a checkpoint, and from its averaged weights the file that
the demo draws with.
"""

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from darkroom_demo.diffusion.colours import COLOURS
from darkroom_demo.diffusion.denoiser import Condition, denoise, shapes
from darkroom_demo.diffusion.things import THINGS
from training.batches import Emoji, noise_levels, painted
from training.dataset import EMOJI, Poses, pose_all
from training.export import PACKAGE, export

CHECKPOINT = Path(".training/denoiser.pt")
STEPS, BATCH, POSES = 6500, 64, 24

#: Matrices in the layers learn by Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"),
#: the rest by Adam, as advised there. Each row of the table of things is seen seldom, so it learns faster.
MUON_MATRICES = ("attend", "attended", "widen", "narrow")
MUON_RATE, ADAM_RATE, TABLE_RATE = 0.02, 0.003, 0.01
#: The rate rises for so many steps, and falls to nothing over the last share of them.
WARM_UP, COOL_DOWN = 100, 0.4

#: What pictures are drawn with is the weights' exponential moving average: so much of it stays in each step.
AVERAGE_KEPT = 0.998
#: Layers begin with this much of their own, and a head that says nothing (Peebles and Xie 2022, adaLN-Zero).
GATE = 0.3
#: The loss is that of the velocity, as in JiT (Li and He 2025): the squared error of the clean picture by
#: (1 + 1 / sigma)^2, which would be endless where there is no noise.
MOST_LOSS_WEIGHT = 100.0

REPORT_EVERY, KEEP_EVERY = 50, 250  # steps


@dataclass
class Learner:
    """The weights, their average, what their optimizers know, and how many steps were made."""

    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    muon: torch.optim.Optimizer
    adam: torch.optim.Optimizer
    steps: int = 0

    @classmethod
    def new(cls) -> "Learner":
        """Return one that knows nothing."""
        weights = {name: value.requires_grad_() for name, value in _initial().items()}
        average = {name: value.detach().clone() for name, value in weights.items()}
        hidden = [value for name, value in weights.items() if _part(name) in MUON_MATRICES]
        others = [v for name, v in weights.items() if _part(name) not in (*MUON_MATRICES, "thing")]
        groups = [{"params": others}, {"params": [weights["thing"]]}]
        muon = torch.optim.Muon(hidden, lr=MUON_RATE, weight_decay=0.0, ns_steps=4)
        return cls(weights, average, muon, torch.optim.Adam(groups, lr=ADAM_RATE, betas=(0.9, 0.98)))

    def load(self, file: Path) -> None:
        """Go on from a checkpoint. Raises `ValueError` for one of other things or another network."""
        saved = torch.load(file)
        if {n: v.shape for n, v in saved["weights"].items()} != {n: v.shape for n, v in self.weights.items()}:
            raise ValueError(f"{file} is of other things or of another network: move it away to begin anew")
        with torch.no_grad():
            for name in self.weights:
                self.weights[name].copy_(saved["weights"][name])
                self.average[name].copy_(saved["average"][name])
        self.muon.load_state_dict(saved["muon"])
        self.adam.load_state_dict(saved["adam"])
        self.steps = saved["steps"]

    def save(self, file: Path) -> None:
        """Write a checkpoint, wholly or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        optimizers = {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}
        torch.save({"weights": self.weights, "average": self.average, **optimizers, "steps": self.steps}, new)
        new.replace(file)

    def learn(self, loss: Tensor, total: int) -> None:
        """Make one of so many steps down the loss."""
        rise, fall = (self.steps + 1) / WARM_UP, (total - self.steps) / (COOL_DOWN * total)
        loss.backward()
        for optimizer, rates in ((self.muon, (MUON_RATE,)), (self.adam, (ADAM_RATE, TABLE_RATE))):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min(rise, 1.0, fall)
            optimizer.step()
            optimizer.zero_grad()
        # At first the average follows at once: it would be of the initial weights for long.
        kept = min(AVERAGE_KEPT, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for name, value in self.weights.items():
                self.average[name].lerp_(value, 1 - kept)
        self.steps += 1


def losses(weights: dict[str, Tensor], clean: Tensor, noise: Tensor, sigma: Tensor, *asked: Tensor) -> Tensor:
    """Return the weighted loss and the plain squared error of a batch."""
    noisy = clean + sigma[:, None, None, None] * noise
    with torch.autocast("cpu", torch.bfloat16):
        drawn = denoise(weights, noisy, sigma, Condition(*asked), torch)
    error = ((drawn.float() - clean) ** 2).mean(dim=(1, 2, 3))
    weight = ((1 + 1 / sigma) ** 2).clip(max=MOST_LOSS_WEIGHT)
    return torch.stack([(error * weight).mean(), error.mean()])


def train(learner: Learner, data: Poses, steps: int, batch: int, compiled: bool, checkpoint: Path) -> None:
    """Train until so many steps were made, and keep what was reached."""
    torch.manual_seed(learner.steps)
    of_batch = torch.compile(losses) if compiled else losses
    batches = _batches(data, batch, np.random.default_rng(learner.steps))
    progress = _Progress(steps)
    for emoji in batches:
        if learner.steps >= steps:
            break
        clean, asked = painted(emoji)
        sigma = noise_levels(batch)
        noise = torch.randn(clean.shape)
        loss = of_batch(learner.weights, clean, noise, sigma, asked.thing, asked.colour, asked.backdrop)
        learner.learn(loss[0], steps)
        progress.made(learner.steps, loss.detach())
        if learner.steps % KEEP_EVERY == 0 or learner.steps == steps:
            learner.save(checkpoint)


class _Progress:
    """Says every so often how far the training is."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.sums: list[Tensor] = []
        self.began: tuple[float, int] | None = None

    def made(self, step: int, loss: Tensor) -> None:
        self.sums.append(loss)
        if self.began is None:
            # The first step compiles.
            self.began = time.monotonic(), step
        elif step % REPORT_EVERY == 0 or step == self.total:
            each = (time.monotonic() - self.began[0]) / (step - self.began[1])
            loss, error = torch.stack(self.sums).mean(dim=0)
            left = (self.total - step) * each / 60
            print(
                f"step {step} of {self.total}: loss {loss:.4f}, error {error:.5f}, "
                f"{each:.2f} s a step, {left:.0f} min to go",
                flush=True,
            )
            self.sums = []


def _batches(data: Poses, size: int, random: np.random.Generator) -> Iterator[Emoji]:
    """Yield batches: every emoji equally often, in any of its poses."""
    pictures, colour, thing, pivot = map(torch.from_numpy, (data.pictures, data.colour, data.thing, data.pivot))
    order: list[int] = []
    while True:
        while len(order) < size:
            order += random.permutation(len(data.thing)).tolist()
        rows, order = torch.tensor(order[:size]), order[size:]
        poses = torch.from_numpy(random.integers(0, data.pictures.shape[1], size))
        yield Emoji(pictures[rows, poses], colour[rows].long(), thing[rows].long(), pivot[rows])


def _initial() -> dict[str, Tensor]:
    spreads = {"thing": 0.5, "colour": 0.5, "position": 0.02}
    nothing = ("modulation", "modulate", "head", "head_bias", "head_modulation")
    weights: dict[str, Tensor] = {}
    for name, shape in shapes(len(THINGS), len(COLOURS)).items():
        part = _part(name)
        spread = spreads.get(part, shape[0] ** -0.5)
        weights[name] = torch.zeros(shape) if part in nothing else spread * torch.randn(shape)
        if part == "modulation":
            weights[name][[2, 5]] = GATE
    return weights


def _part(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def main() -> None:
    """Train, from where the checkpoint ends, and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--emoji", type=Path, default=EMOJI, help="folder of the emoji's pictures")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="what was reached, to go on from")
    parser.add_argument("--weights", type=Path, default=PACKAGE, help="what the demo draws with")
    parser.add_argument("--steps", type=int, default=STEPS, help="in all, those of earlier runs too")
    parser.add_argument("--batch", type=int, default=BATCH, help="pictures in a step")
    parser.add_argument("--poses", type=int, default=POSES, help="of each emoji")
    parser.add_argument("--eager", action="store_true", help="compile nothing: slower, but needs no C++ compiler")
    args = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    learner = Learner.new()
    if args.checkpoint.exists():
        learner.load(args.checkpoint)
    if learner.steps < args.steps:
        print(f"Going on from step {learner.steps} of {args.steps}; the emoji take a minute first.", flush=True)
        data = pose_all(args.emoji, args.poses, seed=0)
        try:
            train(learner, data, args.steps, args.batch, not args.eager, args.checkpoint)
        except KeyboardInterrupt:
            raise SystemExit(f"Stopped. What was reached by step {_kept(learner.steps)} is kept.") from None
    export(args.checkpoint, args.weights)


def _kept(steps: int) -> int:
    return steps - steps % KEEP_EVERY


if __name__ == "__main__":
    main()
