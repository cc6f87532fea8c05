"""What a page tells to type can be typed: commands, options, targets and actions are ones that there are."""

import re
import subprocess
from collections.abc import Iterator
from enum import Enum
from functools import cache
from typing import Any, NamedTuple

import botocore.session
import pytest
import typer
import yaml
from botocore import xform_name

from darkroom.cli import app
from tests.docs.pages import ROOT, Block, blocks, commands, inline_code, pages

SHELL = blocks("sh")
_OWN = (".venv/bin/darkroom", "darkroom")
#: Of the AWS command line alone: no actions of the services.
_AWS_ITSELF = {("s3", "cp"), ("s3", "ls"), ("s3", "sync"), ("s3", "rm"), ("eks", "update-kubeconfig")}
_AWS_OPTIONS = {"--region", "--profile", "--output", "--query", "--no-cli-pager"}


class Said(NamedTuple):
    """A command, and where it stands."""

    where: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.where} {' '.join(self.words)}"


def said(*programs: str) -> list[Said]:
    """All commands of these programs in the shell blocks of all pages."""
    return [Said(str(block), tuple(words)) for block in SHELL for words in _commands(block) if words[0] in programs]


def _commands(block: Block) -> Iterator[list[str]]:
    yield from (words for words in commands(block.text) if words)


def mentioned(*programs: str) -> list[Said]:
    """All commands of these programs that are named within sentences, perhaps without all that they take."""
    code = ((page, text) for page in pages() for text in inline_code(page))
    found = ((page, commands(text)) for page, text in code if text.split(" ")[0] in programs and "…" not in text)
    return [Said(page, tuple(words)) for page, lines in found for words in lines if words and words[0] in programs]


def test_every_block_without_a_language_is_meant_to_be_without() -> None:
    assert not [str(block) for block in blocks("")]


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_every_shell_block_is_something_that_a_shell_understands(block: Block) -> None:
    text = re.sub(r"<[a-z][a-z0-9 -]*>", "placeholder", block.text)
    run = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("command", said(*_OWN), ids=str)
def test_a_darkroom_command_can_be_typed_as_it_stands(command: Said) -> None:
    missing = parsed(command.words[1:])
    assert not missing, f"it also wants {', '.join(missing)}"


@pytest.mark.parametrize("command", mentioned(*_OWN), ids=str)
def test_a_darkroom_command_that_is_named_is_one_that_there_is(command: Said) -> None:
    parsed(command.words[1:])


def parsed(words: tuple[str, ...]) -> list[str]:
    """What a command line lacks that is required. It fails for a command or an option that there is not."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and words:
        name, *rest = words
        assert name in command.commands, f"there is no {name}: there are {', '.join(command.commands)}"
        command, words = command.commands[name], tuple(rest)
    if hasattr(command, "commands"):
        return []
    context = command.context_class(command, info_name="darkroom")
    given, further, _ = command.make_parser(context).parse_args(list(words))  # raises NoSuchOption and its like
    assert not further, f"it takes no {' '.join(further)}"
    for parameter in command.params:
        kind, value = parameter.type_descriptor.annotation, given.get(parameter.name)
        if isinstance(kind, type) and issubclass(kind, Enum) and isinstance(value, str):
            kind(value)  # raises ValueError for what is no choice
    is_given = {name: value not in (None, ()) for name, value in given.items()}
    return [one.name for one in command.params if one.required and not is_given.get(one.name)]


@pytest.mark.parametrize("command", [*said("make"), *mentioned("make")], ids=str)
def test_a_target_of_make_is_one_that_there_is(command: Said) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {word for word in command.words[1:] if "=" not in word}
    assert asked <= targets


@pytest.mark.parametrize("command", [*said("aws"), *mentioned("aws")], ids=str)
def test_an_action_of_the_aws_command_line_is_one_that_there_is(command: Said) -> None:
    if len(command.words) < 3 or command.words[1:3] in _AWS_ITSELF:
        return
    _, service, action, *words = command.words
    model = botocore.session.get_session().get_service_model(service)
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    assert action in operations
    members = model.operation_model(operations[action]).input_shape
    known = {f"--{xform_name(name, '-')}" for name in (members.members if members else {})} | _AWS_OPTIONS
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("command", [*said("kubectl"), *mentioned("kubectl")], ids=str)
def test_a_jsonpath_names_fields_that_the_composites_have(command: Said) -> None:
    for kind in definitions():
        if not {kind, f"{kind}s"} & set(command.words):
            continue
        for fields in re.findall(r"\.status\.([A-Za-z]+)", " ".join(command.words)):
            assert fields in {*definitions()[kind], "conditions"}


@cache
def definitions() -> dict[str, set[str]]:
    """The fields of the status of each composite, by the name of its kind in lower case."""
    found = {}
    for file in (ROOT / "crossplane" / "apis").glob("*/definition.yaml"):
        spec = yaml.safe_load(file.read_text())["spec"]
        (version,) = spec["versions"]
        status = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
        found[spec["names"]["singular"]] = set(status)
    return found


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_file_that_a_command_names_is_there(block: Block) -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    words = (word for command in _commands(block) for word in command)
    named = {word for word in words if word.partition("/")[0] in folders and "/" in word and "placeholder" not in word}
    yours = {word for word in named if re.match("clusters/(main|production)/?|pictures/", word)}
    assert not [word for word in named - yours if not any(ROOT.glob(re.sub(r"\$\w+", "*", word)))]
