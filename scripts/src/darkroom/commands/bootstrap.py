"""``darkroom bootstrap``: a cluster is brought up. ``darkroom boundaries``: its permissions boundaries, to be read."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from darkroom.bootstrap import identities, plan, preflight, summary
from darkroom.bootstrap.steps import ActRequired, Context, Options, run
from darkroom.cluster_files import load_cluster
from darkroom.terminal import clear_errors, console

_Folder = Annotated[Path, typer.Argument(help="The cluster's folder.")]
#: The exit status where a person has to do something, and then run it again.
_ACT_REQUIRED = 3


def bootstrap(
    cluster: _Folder,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be made, and change nothing.")] = False,
    skip_preflight: Annotated[
        bool, typer.Option("--skip-preflight", help="Go on in spite of what the first look finds.")
    ] = False,
    poll: Annotated[float, typer.Option(help="Seconds between two looks at what is waited for.", min=0)] = 5,
    patience: Annotated[float, typer.Option(help="Seconds that any one thing is waited for at most.", min=0)] = 1800,
) -> None:
    """Bring a cluster up: roles, registry, images, EKS, Crossplane's identity, Argo CD; about an hour.

    It first looks for everything that is in the way. It knows from AWS and Kubernetes alone what is done: it can be
    stopped and run again at any time, and a second run changes nothing. The exit status is 1 if something failed or is
    in the way, and 3 where you have to do something before it goes on.
    """
    with clear_errors():
        options = Options(dry_run=dry_run, poll_seconds=poll, wait_seconds=patience)
        context = Context(cluster, load_cluster(cluster), console, options)
        try:
            if not _preflight(context) and not skip_preflight:
                raise typer.Exit(1)
            run(plan.steps(context), context)
            if not dry_run:
                for line in summary.lines(context):
                    console.print(escape(line))
        except ActRequired as act:
            console.print(f"[yellow]your turn[/yellow] {escape(str(act))}")
            console.print(f"[bold]then[/bold]      {escape(act.then or context.command)}")
            raise typer.Exit(_ACT_REQUIRED) from None
        finally:
            context.close()


def boundaries(cluster: _Folder) -> None:
    """Print the permissions boundaries of a cluster's roles, as JSON: for whoever may review or apply them."""
    with clear_errors():
        context = Context(cluster, load_cluster(cluster), console)
        documents = {policy.arn: json.loads(policy.document) for policy in identities.policies(context)}
        console.print_json(json.dumps(documents))


def _preflight(context: Context) -> bool:
    """Say everything that is found; whether nothing is in the way."""
    with console.status("Looking for what is in the way …"):
        found = preflight.findings(context)
    for each in found:
        mark = "[red]in the way[/red]" if each.is_error else "[yellow]note[/yellow]      "
        console.print(f"{mark} {escape(each.words)}\n           {escape(each.remedy)}")
    errors = sum(each.is_error for each in found)
    if not errors:
        console.print("[green]nothing is in the way[/green]")
    return not errors
