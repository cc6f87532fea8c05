"""The command: what can be typed, and that it is quick to answer."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from darkroom import cli


@pytest.mark.parametrize("name", cli._COMMANDS)
def test_every_command_is_there_and_says_what_it_is_for(name: str) -> None:
    done = CliRunner().invoke(cli.app, [name, "--help"])
    assert done.exit_code == 0, done.output
    assert f" {name} [" in done.output


def test_the_help_names_them_all() -> None:
    said = CliRunner().invoke(cli.app, ["--help"]).output
    assert [name for name in cli._COMMANDS if f"│ {name} " not in said] == []


def test_a_command_that_is_mistyped_is_guessed() -> None:
    done = CliRunner().invoke(cli.app, ["promt"])
    assert done.exit_code == 2
    assert "Did you mean 'prompt'?" in done.output


def test_who_sends_a_prompt_does_not_wait_for_the_emulator_to_be_imported() -> None:
    program = (
        "import sys; from darkroom.cli import app; app(['prompt', '--help'], standalone_mode=False); "
        "sys.exit(len(sys.modules.keys() & {'moto', 'werkzeug'}))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
