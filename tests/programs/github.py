"""gh's pull requests, played. The repository on GitHub is a bare one, ``repository.git`` beside the players.

They are remembered in ``pulls.json``, where a test may look at them. As on GitHub, a pull request whose branch is gone
is closed, and a branch has one that is open at most.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FOLDER = Path(os.environ["PLAYERS"])


def _list(arguments: list[str]) -> None:
    """The open ones, as ``--json`` has them."""
    fields = _option(arguments, "--json").split(",")
    with _pulls() as pulls:
        there = [pull for pull in pulls if pull["state"] == "OPEN" and pull["base"] == _option(arguments, "--base")]
        sys.stdout.write(json.dumps([{field: pull[field] for field in fields} for pull in there]))


def _create(arguments: list[str]) -> None:
    """Open one; ``--body-file -``: its text is read from the standard input."""
    head, repository = _option(arguments, "--head"), _option(arguments, "--repo")
    with _pulls() as pulls:
        if head not in _branches():
            sys.exit(f"GraphQL: Head ref must be a branch: {head}")
        if any(pull["headRefName"] == head and pull["state"] == "OPEN" for pull in pulls):
            sys.exit(f"a pull request for branch {head!r} already exists")
        number = len(pulls) + 1
        pulls.append(
            {
                "number": number,
                "url": f"https://github.com/{repository}/pull/{number}",
                "headRefName": head,
                "isCrossRepository": False,
                "state": "OPEN",
                "base": _option(arguments, "--base"),
                "title": _option(arguments, "--title"),
                "body": sys.stdin.read(),
            }
        )
        sys.stdout.write(pulls[-1]["url"] + "\n")


def _close(arguments: list[str]) -> None:
    """Close one, and with ``--delete-branch`` remove its branch."""
    number = int(next(argument for argument in arguments if argument.isdecimal()))
    with _pulls() as pulls:
        pulls[number - 1]["state"] = "CLOSED"
        if "--delete-branch" in arguments:
            _git("branch", "-D", pulls[number - 1]["headRefName"])


@contextmanager
def _pulls() -> Iterator[list[dict[str, Any]]]:
    with (_FOLDER / "pulls.json").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        pulls: list[dict[str, Any]] = json.loads(file.read() or "[]")
        branches = _branches()
        for pull in pulls:
            if pull["headRefName"] not in branches:
                pull["state"] = "CLOSED"
        yield pulls
        file.truncate(0)
        json.dump(pulls, file)


def _branches() -> list[str]:
    return _git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").split()


def _git(*arguments: str) -> str:
    command = ["git", f"--git-dir={_FOLDER / 'repository.git'}", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


PULL_REQUESTS = {"list": _list, "create": _create, "close": _close}
