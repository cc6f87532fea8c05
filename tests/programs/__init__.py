"""Programs that cannot do their work in a test, played: eksctl, aws, gh and so on, and the AWS account behind them.

    with account() as aws, ...:              an AWS account on loopback: moto, and what moto lacks (``account.py``)
        programs = install(folder, aws.url)  every player, in a folder for the PATH (``players.py``)
        programs.environment                 what a process needs to meet them, and the account
        programs.calls()                     every command line since, whole: [["eksctl", "create", "cluster", …], …]
        programs.fail("eksctl create")       the next command that begins so fails, once
        aws.changes                          every call that was to change something, but the players' own, as
                                             ("iam", "CreateRole")
        aws.fail_change(3)                   the third call from now on that is to change something fails, once

A player does to the account what the real one would, as far as the steps can see it: ``eksctl create cluster`` makes a
VPC with subnets and route tables, an EKS cluster and its node groups, all as the file says. What a test has a real one
of, kubectl say, it leaves out: ``install(folder, url, only=("eksctl", "aws", "gh"))``.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tests.programs.account import ACCOUNT, Account, account

__all__ = ["ACCOUNT", "PLAYED", "Account", "Programs", "account", "install"]

_PLAYERS = Path(__file__).with_name("players.py")
PLAYED = ("aws", "cosign", "eksctl", "gh", "helm", "kubectl")


@dataclass(frozen=True)
class Programs:
    """The players in a folder, and what they remember."""

    folder: Path
    aws_url: str
    region: str

    @property
    def environment(self) -> dict[str, str]:
        """What differs from the surroundings of a process that is to meet the players, and the account."""
        return {
            "PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}",
            "PLAYERS": str(self.folder),
            "AWS_ENDPOINT_URL": self.aws_url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def calls(self, *program: str) -> list[list[str]]:
        """The command lines so far, in their order; with names, those of these programs alone."""
        log = self.folder / "calls.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        every: list[list[str]] = [json.loads(line)["command"] for line in lines]
        return [call for call in every if not program or call[0] in program]

    def forget(self) -> None:
        """Begin the list of calls anew."""
        (self.folder / "calls.jsonl").unlink(missing_ok=True)

    def fail(self, beginning: str) -> None:
        """Let the next command that begins so fail, once, before it has done anything."""
        with (self.folder / "failures").open("a") as file:
            file.write(beginning + "\n")

    def answer(self, beginning: str, output: str) -> None:
        """What commands that begin so write from now on, in place of what their player would do."""
        path = self.folder / "answers.json"
        answers = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**answers, beginning: output}))

    def give_kubeconfig(self, kubeconfig: Path) -> None:
        """What ``aws eks update-kubeconfig`` is to write."""
        (self.folder / "kubeconfig").write_bytes(kubeconfig.read_bytes())


def install(folder: Path, aws_url: str, *, region: str = "eu-west-1", only: Collection[str] = PLAYED) -> Programs:
    """Put players into a folder that is there."""
    for name in only:
        script = folder / name
        run = f'exec {shlex.quote(sys.executable)} {shlex.quote(str(_PLAYERS))} {name} "$@"'
        script.write_text(f"#!/bin/sh\n{run}\n")
        script.chmod(0o755)
    return Programs(folder, aws_url, region)
