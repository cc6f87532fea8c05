"""``darkroom runtime``: a model runtime's file, and its dead letters."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from darkroom import endpoint, redrive
from darkroom.cluster_files import load_cluster
from darkroom.dead_letters import DeadLetterQueue
from darkroom.new_runtime import only_cluster, write_runtime
from darkroom.terminal import CLUSTERS, LOCAL_CLUSTER, ClusterFolder, clear_errors, console
from darkroom.trouble import UsageError
from darkroom.validate import ReportFormat, report
from darkroom_contract.gpus import Gpu
from darkroom_contract.types import Engine

app = typer.Typer(no_args_is_help=True, help="Look after a model runtime.")


@app.command("new")
def new_runtime(
    name: Annotated[str, typer.Argument(help="The runtime's name: at most 32 lower-case letters, digits, hyphens.")],
    engine: Annotated[Engine, typer.Option(help="The software that runs the model.")],
    checkpoint: Annotated[
        str | None, typer.Option(help="The model's file, in the folder checkpoints/ of the models volume.")
    ] = None,
    gpu: Annotated[Gpu | None, typer.Option(help="The class of GPU. By default g5.")] = None,
    cluster: Annotated[
        Path | None, typer.Option(help="The cluster's folder. By default the only one under clusters/ with gitops.")
    ] = None,
) -> None:
    """Write the file of a new model runtime, with its options and their defaults as comments.

    The exit status is 1 if the file does not go together with the cluster's others. It is there then all the same.
    """
    with clear_errors():
        cluster = cluster or only_cluster(CLUSTERS)
        path, findings = write_runtime(cluster, name, engine, checkpoint, gpu)
        console.print(f"[green]written[/green]  {escape(str(path))}")
        report(console, [path.parent], findings, ReportFormat.HUMAN)
        console.print("[bold]next[/bold]     look through it, then try it, check it, commit it and push it:")
        console.print(f"         .venv/bin/darkroom local --cluster {escape(str(cluster))}")
        console.print(f"         .venv/bin/darkroom validate {escape(str(cluster))}")
        console.print(f"         git add {escape(str(path))}")
        console.print(f'         git commit -m "Serve {name}" && git push')
        if any(finding.is_error for finding in findings):
            raise typer.Exit(1)


@app.command("redrive")
def redrive_runtime(
    name: Annotated[str, typer.Argument(help="The runtime's name: its folder under runtimes/.")],
    cluster: ClusterFolder = LOCAL_CLUSTER,
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="Send back the one with this id. May be repeated.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Send back every one that is a job.")] = False,
    include_poison: Annotated[
        bool, typer.Option("--include-poison", help="With --all: also what the agent would refuse again.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List a runtime's dead letters with the reasons; with --id or --all, send them back to be run again.

    A failed job counts as new then: its result is kept beside it under another name, and its starts are counted from
    zero. A job that has been completed or cancelled is sent back too, but not run again: its stored result is told once
    more. What is no job at all (poison) would only come back, unless the agent was mended: it is sent back by its id,
    or with --all --include-poison.

    AWS is found as the AWS SDK finds it: AWS_PROFILE, AWS_ENDPOINT_URL, … If these do not say where, and the cluster is
    the one of the local stack that runs, it is the local stack's.
    """
    with clear_errors():
        choice = redrive.Choice(tuple(ids or ()), everything, include_poison)
        choice.check()
        files = load_cluster(cluster)
        if name not in files.runtimes:
            raise UsageError(f"{cluster}/runtimes has no runtime {name}; there are {', '.join(files.runtimes)}")
        names = files.cluster.names
        session, local_url = endpoint.aws(names)
        if local_url and not as_json:
            console.print(f"[dim]of the local stack, {local_url}[/dim]")
        queue = DeadLetterQueue(session, names, name, local_url)
        if choice == redrive.Choice():
            redrive.list_all(console, queue, as_json=as_json)
        elif not redrive.send_back(console, queue, choice, as_json=as_json):
            raise typer.Exit(1)
