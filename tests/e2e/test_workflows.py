"""What GitHub would refuse in a workflow, and what its shell would trip over."""

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.controlplane.binaries import component

ROOT = Path(__file__).parents[2]
#: With shellcheck beside it, actionlint reads what the workflows run, too.
ENVIRONMENT = {**os.environ, "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))}


def lint(*files: Path) -> str:
    """What actionlint finds."""
    program = component("actionlint") / "bin" / "actionlint"
    return subprocess.run(
        [program, *files], cwd=ROOT, env=ENVIRONMENT, check=False, capture_output=True, text=True
    ).stdout


def test_the_workflows_are_free_of_mistakes() -> None:
    assert lint() == ""


def test_a_mistake_in_the_shell_of_a_workflow_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    steps = "steps: [{run: echo $GITHUB_REF >> $GITHUB_OUTPUT}]"
    wrong.write_text(f"on: push\njobs:\n  one:\n    runs-on: ubuntu-24.04\n    {steps}\n")
    assert "SC2086" in lint(wrong)
