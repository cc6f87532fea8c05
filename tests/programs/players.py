"""The players: ``python players.py <program> <arguments>``. See the package's description.

They are started often, and import only what is quick: what they do to the account, the account does (``effects.py``).
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

FOLDER = Path(os.environ["PLAYERS"])
#: What each program says of its version, word by word as the real one does.
VERSIONS: dict[tuple[str, ...], str] = {
    ("aws", "--version"): "aws-cli/2.31.18 Python/3.13.7 Linux/6.8.0-1040-aws exe/x86_64.ubuntu.24",
    ("cosign", "version", "--json"): json.dumps({"gitVersion": "v3.1.3", "goVersion": "go1.26.6"}),
    ("eksctl", "version"): "0.230.0",
    ("gh", "--version"): "gh version 2.83.1 (2025-11-13)\nhttps://github.com/cli/cli/releases/tag/v2.83.1",
    ("helm", "version", "--template", "{{.Version}}"): "v4.1.4",
    ("kubectl", "version", "--client", "--output=json"): json.dumps({"clientVersion": {"gitVersion": "v1.35.4"}}),
}


def main(command: list[str]) -> None:
    """Play one command."""
    _remember(command)
    line = " ".join(command)
    if _is_to_fail(line):
        sys.exit(f"{command[0]}: it was to fail")
    answers = FOLDER / "answers.json"
    if answers.exists():
        for beginning, output in json.loads(answers.read_text()).items():
            if line.startswith(beginning):
                sys.stdout.write(output)
                return
    if (version := VERSIONS.get(tuple(command))) is not None:
        sys.stdout.write(version + "\n")
    elif command[:2] == ["gh", "api"]:
        _describe_repository(command[2:])
    elif player := _PLAYERS.get(tuple(command[:3])):
        player(command[3:])
    elif command[0] not in ("gh", "helm"):
        sys.exit(f"{line}: nobody plays that")


def _remember(command: list[str]) -> None:
    with (FOLDER / "calls.jsonl").open("a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        log.write(json.dumps({"command": command}) + "\n")


def _is_to_fail(line: str) -> bool:
    path = FOLDER / "failures"
    if not path.exists():
        return False
    failures = path.read_text().splitlines()
    beginning = next((each for each in failures if line.startswith(each)), None)
    if beginning is None:
        return False
    failures.remove(beginning)
    path.write_text("".join(f"{each}\n" for each in failures))
    return True


def _option(arguments: list[str], *names: str) -> str:
    """The value of an option, however it is written."""
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names:
            return value if equals else arguments[position + 1]
    sys.exit(f"{names[0]} is missing")


def _ask(effect: str, arguments: list[str], **more: str) -> None:
    """Have the account do what the program would do to it: it is quicker at that than a process that begins anew."""
    config = Path(_option(arguments, "--config-file", "-f")).read_text() if effect.startswith("eksctl") else ""
    asked = json.dumps({"effect": effect, "config": config, **more}).encode()
    url = os.environ["AWS_ENDPOINT_URL"] + "/player"
    try:
        urllib.request.urlopen(urllib.request.Request(url, asked)).close()
    except urllib.error.HTTPError as error:
        sys.exit(f"Error: {error.read().decode()}")


def _run_workflow(_arguments: list[str]) -> None:
    """A run that goes on until the test says otherwise: by an answer to ``gh run list``."""
    (FOLDER / "runs.json").write_text(json.dumps([{"status": "in_progress"}]))


def _describe_repository(arguments: list[str]) -> None:
    sys.stdout.write(json.dumps({"id": 222, "full_name": arguments[0].removeprefix("repos/"), "owner": {"id": 111}}))


def _list_runs(_arguments: list[str]) -> None:
    path = FOLDER / "runs.json"
    sys.stdout.write(path.read_text() if path.exists() else "[]")


def _pull_request(verb: str, arguments: list[str]) -> None:
    """As GitHub has them, by what is beside this file, which is run as a script."""
    importlib.import_module("github").PULL_REQUESTS[verb](arguments)


def _update_kubeconfig(arguments: list[str]) -> None:
    _ask(
        "aws eks describe-cluster", arguments, name=_option(arguments, "--name"), region=_option(arguments, "--region")
    )
    given = FOLDER / "kubeconfig"
    text = given.read_text() if given.exists() else "apiVersion: v1\nkind: Config\n"
    Path(_option(arguments, "--kubeconfig")).write_text(text)


_PLAYERS: dict[tuple[str, ...], Callable[[list[str]], None]] = {
    **{
        command: partial(_ask, " ".join(command))
        for command in (
            ("eksctl", "create", "addon"),
            ("eksctl", "create", "cluster"),
            ("eksctl", "create", "nodegroup"),
            ("eksctl", "delete", "cluster"),
        )
    },
    ("gh", "workflow", "run"): _run_workflow,
    ("gh", "run", "list"): _list_runs,
    **{("gh", "pr", verb): partial(_pull_request, verb) for verb in ("close", "create", "list")},
    ("aws", "eks", "update-kubeconfig"): _update_kubeconfig,
}

if __name__ == "__main__":
    main(sys.argv[1:])
