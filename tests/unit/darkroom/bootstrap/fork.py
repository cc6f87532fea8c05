"""A fork with a cluster's folder, for tests: and what runs the steps in AWS, as a process of its own too."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console

from darkroom.bootstrap import eks, identities, images, plan
from darkroom.bootstrap.steps import Context, Options, Step, run
from darkroom.cluster_files import load_cluster

ROOT = Path(__file__).parents[4]
#: As in tests.programs, which takes long to import: this runs as a process of its own, too, and often.
ACCOUNT = "123456789012"
REGION = "eu-west-1"
REPOSITORY = "https://github.com/acme/darkroom.git"
AT_ONCE = Options(poll_seconds=0.01, wait_seconds=5, settle_seconds=0)


def write_fork(root: Path, name: str = "ours") -> Path:
    """A cluster's folder, in a folder that has what the steps read of the repository."""
    folder = root / "clusters" / name
    folder.mkdir(parents=True)
    cluster = {
        "name": name,
        "account": ACCOUNT,
        "region": REGION,
        "eksName": f"{name}-eks",
        "gitops": {"repository": REPOSITORY},
        "gpuNodes": {"pools": [{"gpu": "g5", "maxGpus": 4}, {"gpu": "p4d", "maxGpus": 8, "capacity": "spot"}]},
    }
    (folder / "cluster.yaml").write_text(yaml.safe_dump({"cluster": cluster}))
    (folder / "images.yaml").write_text("images: {}\n")
    example = (ROOT / "clusters" / "example" / "eksctl.yaml").read_text()
    text = example.replace("name: example", f"name: {name}-eks").replace(": example", f": {name}")
    (folder / "eksctl.yaml").write_text(text)
    for path in ("apps/gpu-nodes/instance-types.yaml",):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, root / path)
    return folder


@dataclass
class Fork:
    """A fork's cluster, and what was said of the last run."""

    folder: Path
    said: str = ""

    def context(self, options: Options = AT_ONCE) -> Context:
        """What the steps share, anew each time."""
        console = Console(file=io.StringIO(), width=200, highlight=False)
        return Context(self.folder, load_cluster(self.folder), console, options)

    def run(self, options: Options = AT_ONCE) -> str:
        """Run the steps in AWS; what was said of it."""
        context = self.context(options)
        try:
            run(aws_steps(context), context)
        finally:
            assert isinstance(context.console.file, io.StringIO)
            self.said = context.console.file.getvalue()
        return self.said


def aws_steps(context: Context) -> list[Step]:
    """Those of the steps that are about AWS alone."""
    return [step for step in plan.steps(context) if type(step).__module__ in _OF_AWS]


_OF_AWS = {eks.__name__, identities.__name__, images.__name__}


def _killed_after_a_step(folder: Path) -> None:
    """Run the steps, and be killed once one of them has made something."""
    fork = Fork(folder)
    context = fork.context()
    for step in aws_steps(context):
        if not step.is_done():
            step.do()
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _killed_after_a_step(Path(sys.argv[1]))
