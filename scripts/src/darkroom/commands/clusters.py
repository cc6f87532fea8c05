"""``darkroom validate``: the clusters' files."""

from pathlib import Path
from typing import Annotated

import typer

from darkroom.terminal import clear_errors, console
from darkroom.validate import ReportFormat, clusters_folder, find_all, report


def validate(
    clusters: Annotated[
        list[Path] | None, typer.Argument(help="The clusters' folders. All under clusters/ if none is given.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="What to compare with, to find removed runtimes. By default what Argo CD follows on origin."),
    ] = None,
    style: Annotated[
        ReportFormat, typer.Option("--format", help="For people, or as annotations of GitHub Actions.")
    ] = ReportFormat.HUMAN,
) -> None:
    """Check clusters' folders: everything that Argo CD, Kubernetes or AWS would refuse, with file, line and remedy.

    The exit status is 1 if anything is wrong. Notes are only worth knowing.
    """
    with clear_errors():
        every = None if clusters else clusters_folder()
        folders = clusters or sorted(path for path in (every or Path()).iterdir() if path.is_dir())
        findings = find_all(folders, base, style, every)
        report(console, folders, findings, style)
        if any(finding.is_error for finding in findings):
            raise typer.Exit(1)
