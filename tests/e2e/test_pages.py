"""The commands of the pages that want a cluster: their programs know them, and every option that they have."""

import subprocess

import pytest

from tests.docs.pages import blocks, commands
from tests.e2e.controlplane.binaries import component

#: Programs that parse a whole command line before they show their help, and fail at what they do not know.
PROGRAMS = ("cosign", "helm", "kubectl")
TYPED = sorted({tuple(words) for block in blocks("sh") for words in commands(block.text) if words[:1]})


@pytest.mark.parametrize("words", [words for words in TYPED if words[0] in PROGRAMS], ids=" ".join)
def test_a_program_knows_what_a_page_has_typed(words: tuple[str, ...]) -> None:
    program, *arguments = words
    kept = arguments[: arguments.index("--")] if "--" in arguments else arguments
    run = subprocess.run(
        [component(program) / "bin" / program, *kept, "--help"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_fails_at_an_option_that_it_does_not_know(program: str) -> None:
    command = {"cosign": "verify", "helm": "install", "kubectl": "get"}[program]
    run = subprocess.run(
        [component(program) / "bin" / program, command, "--no-such-option", "--help"], capture_output=True, check=False
    )
    assert run.returncode != 0
