"""``darkroom validate``: everything that is wrong in clusters' folders, before Argo CD sees it.

It reads files and asks git what was there before; it changes nothing.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from darkroom.cluster_files import DEFAULT_REVISION, check_cluster, followed_revision
from darkroom.documents import Finding, Unreadable, parse, printable, validate
from darkroom_contract.schemas import RuntimeFile

_CLUSTERS = "clusters"
#: A runtime's file in its cluster's folder.
_RUNTIME = "runtimes/*/runtime.yaml"
_REMOTE = "refs/remotes/"
_REMEDY = "bring the folder back with accepting: false, let the queue drain, and remove it in a later commit"


class ReportFormat(StrEnum):
    """How findings are printed."""

    HUMAN = "human"
    GITHUB = "github"
    """Workflow commands of GitHub Actions, which shows them in the pull request."""


class GitFailed(Exception):  # noqa: N818 - it says what happened
    """Git could not say what was there before; the message is git's own."""


def clusters_folder() -> Path:
    """The nearest folder ``clusters`` from where the command runs upwards."""
    start = Path.cwd()
    found = (place / _CLUSTERS for place in (start, *start.parents) if (place / _CLUSTERS).is_dir())
    return Path(os.path.relpath(next(found, start / _CLUSTERS)))


def find_all(
    folders: Sequence[Path], base: str | None, style: ReportFormat, parent: Path | None = None
) -> list[Finding]:
    """Everything that there is to say of clusters' folders, sorted.

    ``base`` is None if the user gave none: then it is what each cluster follows. If they are all clusters that there
    are, ``parent`` is the folder that has them: then one that is gone is found, too.
    """
    findings: list[Finding] = []
    followed: dict[Path, str] = {}
    for folder in folders:
        if whole := _given_in_part(folder):
            findings.append(Finding(folder, 1, "", f"give the cluster's folder, {whole}"))
        else:
            findings += check_cluster(folder)[1]
            followed[folder] = base or followed_revision(folder)
    places = [(folder, _RUNTIME, revision) for folder, revision in followed.items()]
    if parent is not None:
        revisions = sorted({*followed.values()} or {base or DEFAULT_REVISION})
        places = [(parent, f"*/{_RUNTIME}", revision) for revision in revisions]
    for place, pattern, revision in places:
        for finding in _removals(place, pattern, base, revision, style):
            cluster = next((folder for folder in followed if folder in finding.path.parents), None)
            if cluster is None or followed[cluster] == revision:
                findings.append(finding)
    return sorted(set(findings))


def _given_in_part(folder: Path) -> str | None:
    """The cluster's folder, if what was given is only something in it; all of them, if it is the one that has them."""
    if not (folder / "cluster.yaml").exists():
        if whole := next((above for above in folder.resolve().parents if (above / "cluster.yaml").is_file()), None):
            return os.path.relpath(whole)
        if inner := next(folder.glob("*/cluster.yaml"), None):
            return f"{inner.parent} say, or none for all clusters"
    return None


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


def _removals(place: Path, pattern: str, base: str | None, revision: str, style: ReportFormat) -> Iterator[Finding]:
    """What was removed too soon, or why that cannot be said.

    That is an error wherever there should be something to compare with: in a clone, or for continuous integration.
    """
    if not place.is_dir():
        return
    try:
        name = base or _known_name(place, revision)
        yield from _removed_too_soon(place, pattern, name)
        if base is None and style is ReportFormat.GITHUB and _commit(place, name) == _commit(place, "HEAD"):
            itself = name.removeprefix(_REMOTE)
            words = f"compared with itself, since {itself} is checked: say what it was before the push by --base"
            yield Finding(place, 1, "", words, is_error=False)
    except GitFailed as error:
        is_error = base is not None or style is ReportFormat.GITHUB or _is_clone(place)
        words = f"not checked whether a runtime was removed too soon: {error}; {_remedy(place, base, revision)}"
        yield Finding(place, 1, "", words, is_error=is_error)


def _known_name(folder: Path, revision: str) -> str:
    """What git calls the branch, the tag or the commit that a cluster follows; raises ``GitFailed``.

    It is never the branch of that name: the one that is checked would be compared with itself.
    """
    names = [f"{_REMOTE}origin/{revision}", f"refs/tags/{revision}"]
    if re.fullmatch("[0-9a-f]{7,40}", revision):
        names.append(revision)
    for name in names:
        with suppress(GitFailed):
            _commit(folder, name)
            return name
    _git(folder, "rev-parse", "--is-inside-work-tree")
    raise GitFailed(f"there is no origin/{revision}, which Argo CD follows")


def _commit(folder: Path, name: str) -> bytes:
    return _git(folder, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")


def _is_clone(folder: Path) -> bool:
    with suppress(GitFailed):
        return bool(_git(folder, "remote").strip())
    return False


def _remedy(folder: Path, base: str | None, revision: str) -> str:
    if base is not None or not _is_clone(folder):
        return "say what to compare with by --base"
    is_shallow = _git(folder, "rev-parse", "--is-shallow-repository").strip() == b"true"
    fetch = f"git fetch {'--unshallow ' if is_shallow else ''}origin +{revision}:refs/remotes/origin/{revision}"
    return f"fetch the whole history, {fetch}, or say what to compare with by --base"


def _removed_too_soon(folder: Path, pattern: str, base: str) -> Iterator[Finding]:
    """The runtimes that were there where the branch began, took jobs there, and are gone: their jobs are lost.

    Their files in the folder are what the pattern says.
    """
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
