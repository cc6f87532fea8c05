"""Says how good the model is: a classifier, which learnt from emoji alone, names what the model draws.

`python -m training.evaluate`. The classifier sees the emoji in other poses than the model did, and is tested on others
again, so that its own accuracy says how far it can be trusted. It is kept beside the checkpoint.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's custom
from torch import Tensor, nn

from darkroom_demo.diffusion.denoiser import SIDE
from darkroom_demo.diffusion.things import THINGS
from training.batches import backdrops, composited
from training.dataset import EMOJI, pose_all
from training.pictures import draw

CLASSIFIER = Path(".training/classifier.pt")
#: Poses that the model never saw: what the classifier learns from, and what it is tested on.
LEARN_SEED, LEARN_POSES, TEST_SEED, TEST_POSES = 1, 16, 2, 4
EPOCHS, BATCH, RATE = 12, 70, 0.003
#: What the classifier sees is smaller than what the model draws by so much.
SMALLER = 2
#: What the model draws is a little blurred and grainy: the classifier has to bear with that.
BLURRED, GRAIN = 0.5, 0.04
#: How many pictures are drawn at once.
AT_ONCE = 12


def classifier() -> nn.Sequential:
    """Return a small network that has learnt nothing: (n, 3, side, side) from 0 to 1 to a score for each thing."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 128), (128, 192)):
        layers += [nn.Conv2d(before, after, 3, 2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(192 * 9, len(THINGS)))


def small(pictures: Tensor) -> Tensor:
    """Return pictures, (n, SIDE, SIDE, 3), as the classifier sees them."""
    return F.avg_pool2d(pictures.permute(0, 3, 1, 2), SMALLER)


def rendered(pictures: Tensor) -> Tensor:
    """Return emoji, (n, SIDE, SIDE, 4) in bytes, small, on random backdrops, some of them blurred, with grain."""
    values = pictures.float() / 255
    flat = small(composited(values[..., :3], values[..., 3:], backdrops(len(values))))
    soft = F.avg_pool2d(flat, 3, 1, padding=1, count_include_pad=False)
    chosen = torch.where(torch.rand(len(flat), 1, 1, 1) < BLURRED, soft, flat)
    return chosen + GRAIN * torch.rand(len(flat), 1, 1, 1) * torch.randn(flat.shape)


def held_out(emoji: Path, poses: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return emoji in poses of their own, all but the first, which every seed has; and the row of each one's thing."""
    posed = pose_all(emoji, poses, seed)
    pictures = torch.from_numpy(posed.pictures[:, 1:].reshape(-1, SIDE, SIDE, 4))
    return pictures, torch.from_numpy(posed.thing).long().repeat_interleave(poses - 1)


def learnt(emoji: Path) -> nn.Sequential:
    """Return a classifier that has learnt from the emoji."""
    torch.manual_seed(0)
    pictures, things = held_out(emoji, LEARN_POSES, LEARN_SEED)
    model = classifier()
    steps = EPOCHS * (len(things) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(things))
        for rows in order[: len(things) // BATCH * BATCH].split(BATCH):
            loss = F.cross_entropy(model(rendered(pictures[rows])), things[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
        print(f"classifier: {epoch + 1} of {EPOCHS} rounds, loss {loss.detach():.3f}", flush=True)
    return model.eval()


def kept(emoji: Path, file: Path) -> nn.Sequential:
    """Return the classifier of a file, which is made if it is not there or is of other things."""
    saved = torch.load(file) if file.exists() else {"things": []}
    if saved["things"] == list(THINGS):
        model = classifier()
        model.load_state_dict(saved["weights"])
        return model.eval()
    model = learnt(emoji)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"things": list(THINGS), "weights": model.state_dict()}, file)
    return model


def named(model: nn.Sequential, pictures: Tensor) -> Tensor:
    """Return the rows of the five likeliest things for each picture, the likeliest first: (n, 5)."""
    with torch.inference_mode():
        return torch.cat([model(some).topk(5).indices for some in pictures.split(BATCH)])


def on_emoji(model: nn.Sequential, emoji: Path) -> float:
    """Return the share of held-out emoji that the classifier names."""
    torch.manual_seed(1)
    pictures, things = held_out(emoji, TEST_POSES, TEST_SEED)
    return float((named(model, rendered(pictures))[:, 0] == things).float().mean())


def drawn() -> Tensor:
    """Return what the model draws when it is asked for each thing."""
    prompts, pictures = list(THINGS), []
    for first in range(0, len(prompts), AT_ONCE):
        pictures += [np.asarray(picture) for picture in draw(prompts[first : first + AT_ONCE], SIDE)]
        print(f"{len(pictures)} of {len(prompts)} things are drawn", flush=True)
    return small(torch.from_numpy(np.stack(pictures)).float() / 255)


def main() -> None:
    """Print how often the classifier is right about emoji, and how often about what the model draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--emoji", type=Path, default=EMOJI, help="folder of the emoji's pictures")
    parser.add_argument("--classifier", type=Path, default=CLASSIFIER, help="where it is kept")
    args = parser.parse_args()
    model = kept(args.emoji, args.classifier)
    print(f"The classifier names {on_emoji(model, args.emoji):.1%} of held-out emoji.", flush=True)
    likeliest, names = named(model, drawn()), list(THINGS)
    right = likeliest == torch.arange(len(names))[:, None]
    first, among_five = right[:, 0].float().mean(), right.any(dim=1).float().mean()
    for row in torch.nonzero(~right[:, 0]).flatten().tolist():
        print(f"wrong: {names[row]}, taken for {', '.join(names[other] for other in likeliest[row, :3])}")
    print(
        f"It names {first:.1%} of what the model draws; for {among_five:.1%} the right thing is among its first five."
    )


if __name__ == "__main__":
    main()
