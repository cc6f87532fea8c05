"""The charts, rendered by the real Helm. Needs its build, or the environment variable ``HELM`` that names a program."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.controlplane.binaries import component

#: Where the charts are, and the clusters' files that they are rendered with.
REPOSITORY = Path(__file__).parents[2]
APPS, CLUSTERS = REPOSITORY / "apps", REPOSITORY / "clusters"


class RenderFailed(Exception):  # noqa: N818 - it says what happened
    """Helm refused the chart or its values; the message is Helm's."""


def render(chart: Path, *values: Path | dict[str, Any], name: str = "x", namespace: str = "darkroom") -> list[Any]:
    """The objects of a chart with its values, files or mappings, later ones before earlier ones; ``RenderFailed``."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [helm(), "template", name, str(chart), "--namespace", namespace, "--include-crds"]
        for number, given in enumerate(values):
            file = given
            if isinstance(given, dict):
                file = Path(scratch, f"{number}.yaml")
                file.write_text(json.dumps(given, ensure_ascii=False))  # which is YAML
            command += ["--values", str(file)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RenderFailed(done.stderr.strip())
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def one(objects: Iterable[Any], kind: str, name: str | None = None) -> Any:
    """The only object of a kind, or the only one of its name too."""
    found = [item for item in objects if item["kind"] == kind and name in {None, item["metadata"]["name"]}]
    assert len(found) == 1, f"{len(found)} objects are a {kind} {name or ''}"
    return found[0]


@cache
def helm() -> str:
    """Helm's program; raises ``BuildFailed`` when it is not built."""
    return os.environ.get("HELM") or str(component("helm") / "bin" / "helm")
