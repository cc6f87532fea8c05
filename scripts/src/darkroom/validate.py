"""``darkroom validate``: everything that is wrong in clusters' folders, before Argo CD sees it.

It reads files and asks git what was there before; it changes nothing.
"""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from darkroom.cluster_files import check_cluster
from darkroom.documents import Finding, Unreadable, parse, printable, validate
from darkroom_contract.schemas import RuntimeFile

#: What a removed runtime is looked up in when nothing else is said.
DEFAULT_BASE = "origin/main"
#: A runtime's file in its cluster's folder.
_RUNTIME = "runtimes/*/runtime.yaml"
_REMEDY = "bring the folder back with accepting: false, let the queue drain, and remove it in a later commit"


class ReportFormat(StrEnum):
    """How findings are printed."""

    HUMAN = "human"
    GITHUB = "github"
    """Workflow commands of GitHub Actions, which shows them in the pull request."""


class GitFailed(Exception):  # noqa: N818 - it says what happened
    """Git could not say what was there before; the message is git's own."""


def find_all(folders: Sequence[Path], base: str | None, parent: Path | None = None) -> list[Finding]:
    """Everything that there is to say of clusters' folders, sorted.

    ``base`` is None if the user gave none. If they are all clusters that there are, ``parent`` is the folder that has
    them: then one that is gone is found, too.
    """
    findings = [finding for folder in folders for finding in check_cluster(folder)[1]]
    places = [(folder, _RUNTIME) for folder in folders] if parent is None else [(parent, f"*/{_RUNTIME}")]
    for place, pattern in places:
        try:
            findings += _removed_too_soon(place, pattern, base or DEFAULT_BASE)
        except GitFailed as error:
            words = f"not checked whether a runtime was removed too soon: {error}; say what to compare with by --base"
            findings.append(Finding(place, 1, "", words, is_error=base is not None))
    return sorted(findings)


def report(console: Console, folders: Sequence[Path], findings: Sequence[Finding], style: ReportFormat) -> None:
    """Print the findings, and for people how many there are."""
    if style is ReportFormat.GITHUB:
        for finding in findings:
            print(_annotation(finding))  # noqa: T201 - GitHub reads it, so that nothing may wrap or colour it
        return
    for finding in findings:
        console.print(f"{'[red]error[/red]' if finding.is_error else '[yellow]note[/yellow] '} {_marked_up(finding)}")
    errors = sum(finding.is_error for finding in findings)
    checked = ", ".join(map(printable, folders))
    said = f"[red]{_count(errors, 'error')}[/red]" if errors else "[green]nothing is wrong[/green]"
    notes = f", {_count(len(findings) - errors, 'note')}" if len(findings) > errors else ""
    console.print(f"{said}{notes} in {escape(checked)}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _marked_up(finding: Finding) -> str:
    name = f" [bold]{escape(finding.field)}[/bold]:" if finding.field else ""
    return f"{escape(printable(finding.path))}:{finding.line}:{name} {escape(printable(finding.words))}"


def _annotation(finding: Finding) -> str:
    """A workflow command (GitHub Actions, "Workflow commands"): its data and its properties have their own escapes."""
    command = "error" if finding.is_error else "notice"
    words = f"{finding.field}: {finding.words}" if finding.field else finding.words
    return (
        f"::{command} file={_escaped(printable(finding.path), ':,')},line={finding.line}::{_escaped(printable(words))}"
    )


def _escaped(text: str, further: str = "") -> str:
    for character in f"%\r\n{further}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text


# What git knows


def _removed_too_soon(folder: Path, pattern: str, base: str) -> Iterator[Finding]:
    """The runtimes that were there where the branch began, took jobs there, and are gone: their jobs are lost.

    Their files in the folder are what the pattern says.
    """
    if not folder.is_dir():
        return
    began = _git(folder, "merge-base", "HEAD", base).decode().strip()
    listed = _git(folder, "ls-tree", "-r", "-z", "--name-only", began)
    for name in filter(None, listed.decode(errors="surrogateescape").split("\0")):
        path = folder / name
        is_runtime = Path(name).match(pattern) and len(Path(name).parts) == len(Path(pattern).parts)
        if is_runtime and not path.parent.exists():
            yield from _took_jobs(path, _git(folder, "show", f"{began}:./{name}"))


def _took_jobs(path: Path, content: bytes) -> Iterator[Finding]:
    try:
        file, _ = validate(parse(path, content), RuntimeFile)
    except Unreadable:
        file = None
    if file is None:
        yield Finding(path, 1, "", "it was removed; whether it took jobs its file did not say clearly", is_error=False)
    elif file.runtime.accepting:
        yield Finding(
            path, 1, "runtime.accepting", f"it was removed while it took jobs, which would be lost: {_REMEDY}"
        )


def _git(folder: Path, *arguments: str) -> bytes:
    git = shutil.which("git")
    if git is None:
        raise GitFailed("there is no git")
    done = subprocess.run([git, "-C", str(folder), *arguments], capture_output=True, check=False)  # noqa: S603 - no shell
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise GitFailed(said[0] if said else f"{arguments[-1]} and this branch have nothing in common")
    return done.stdout
