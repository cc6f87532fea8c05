"""``darkroom destroy``: a cluster is taken down."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from darkroom.bootstrap import destroy as way_back
from darkroom.bootstrap import leftovers
from darkroom.bootstrap.steps import Context, Options
from darkroom.cluster_files import load_cluster
from darkroom.terminal import clear_errors, console
from darkroom.trouble import UsageError


def destroy(
    cluster: Annotated[Path, typer.Argument(help="The cluster's folder.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be taken away, and change nothing.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing. It wants --delete-data or --keep-data beside it.")
    ] = False,
    data: Annotated[
        bool | None,
        typer.Option(
            "--delete-data/--keep-data",
            help="Buckets and file systems, with models, jobs and pictures, and the images in ECR: asked if not said.",
        ),
    ] = None,
) -> None:
    """Take a cluster down: runtimes, API, nodes, EKS and its roles. Data is asked about, and stays unless it is said.

    It can be stopped and run again at any time. At its end it lists what is left and costs money.
    """
    with clear_errors():
        if yes and data is None:
            raise UsageError("--yes asks nothing: say --keep-data, or --delete-data, beside it")
        context = Context(cluster, load_cluster(cluster), console, Options(dry_run=dry_run), action="destroy")
        try:
            way_back.check_is_ours(context)
            name = context.cluster.name
            _show("This goes with the cluster", way_back.lost(context))
            found = [*leftovers.data(context)]
            _show("This is data, and can be kept", (f"{each.what}: {each.detail}" for each in found))
            if not dry_run and not yes:
                if typer.prompt(f"Its name, to take cluster {name} down") != name:
                    raise UsageError("nothing was changed")
                if data is None and found:
                    data = typer.prompt("keep or delete its data", default="keep") == "delete"
            way_back.run(context, delete_data=bool(data))
            _show("This is left, and costs money", map(str, leftovers.find(context)))
        finally:
            context.close()


def _show(title: str, lines: Iterable[str]) -> None:
    """A list, if there is anything in it."""
    for number, line in enumerate(lines):
        if number == 0:
            console.print(f"{title}:")
        console.print(f"  {escape(line)}")
