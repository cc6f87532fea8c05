"""``darkroom image-cache``: the snapshot with the images from which GPU nodes start."""

import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from darkroom import account
from darkroom.cluster_files import load_cluster
from darkroom.documents import replace
from darkroom.image_cache import ImageCache, Machine, bottlerocket_version, images_of, with_snapshot
from darkroom.terminal import clear_errors, console
from darkroom.trouble import UsageError

app = typer.Typer(no_args_is_help=True, help="Look after the snapshot from which GPU nodes start.")
_A_SNAPSHOT = "snap-0123456789abcdef0"


@app.callback()
def _image_cache() -> None:
    """So that there is a command within, although it is only one."""


@app.command()
def build(
    cluster: Annotated[Path, typer.Argument(help="The cluster's folder.", metavar="clusters/CLUSTER")],
    instance_type: Annotated[str, typer.Option(help="The instance that pulls the images.")] = Machine.instance_type,
    volume_size: Annotated[
        int, typer.Option(help="The snapshot's size in GiB; twice what the images have, unpacked.", min=20, max=200)
    ] = Machine.volume_size,
    delete_old: Annotated[
        bool,
        typer.Option("--delete-old", help="Delete the cluster's other snapshots, but for the one in cluster.yaml."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Make an EBS snapshot with the images of the cluster's runtimes, and write its id into cluster.yaml.

    An instance is started for it, and ended. What was killed goes on where it was when the command is run again; what
    fails or is interrupted is undone. A snapshot of the same images is not made twice.
    """
    with clear_errors():
        files = load_cluster(cluster)
        if files.cluster.emulator or files.cluster.gpu_nodes.raid0:
            raise UsageError(
                f"{cluster}: only with gpuNodes.raid0: false nodes look at a snapshot, and never beside an "
                "emulator; docs/image-cache.md says when it is worth it"
            )
        path = cluster / "cluster.yaml"
        with_snapshot(path, _A_SNAPSHOT)
        images = images_of(files)
        version = bottlerocket_version(cluster.resolve().parents[1])
        named = files.cluster.gpu_nodes.image_snapshot_id
        with console.status("looking") as status:
            cache = ImageCache(account.session(files.cluster), files.cluster, images, status.update)
            if dry_run:
                _say_plan(cache, images, Machine(instance_type, volume_size), version)
                return
            # As Ctrl-C: what was begun is undone.
            before = signal.signal(signal.SIGTERM, signal.default_int_handler)
            try:
                snapshot_id = cache.build(version, Machine(instance_type, volume_size))
            finally:
                signal.signal(signal.SIGTERM, before)
        console.print(f"[green]ready[/green]      {snapshot_id}, with {len(images)} images")
        _write(path, snapshot_id, named)
        _old(cache, named, delete=delete_old)


def _say_plan(cache: ImageCache, images: tuple[str, ...], machine: Machine, version: str) -> None:
    for image in images:
        console.print(f"image      {escape(image)}")
    if found := cache.find():
        console.print(f"there      {found} has them: nothing to be made")
        return
    subnet, groups = cache.network()
    console.print(
        f"instance   {machine.instance_type} in {subnet} with {', '.join(groups)}, On-Demand, until it is done"
    )
    console.print(f"from       {cache.image_id(version)}, Bottlerocket {version}")
    console.print(f"snapshot   of {machine.volume_size} GiB")


def _write(path: Path, snapshot_id: str, named: str | None) -> None:
    if named == snapshot_id:
        console.print(f"unchanged  {escape(str(path))}")
        return
    replace(path, with_snapshot(path, snapshot_id).encode())
    console.print(f"[green]written[/green]    {escape(str(path))}")
    console.print("[bold]next[/bold]       commit and push it: nodes that start then, start from it")
    console.print(f'           git commit -m "Start nodes with images" {escape(str(path))} && git push')


def _old(cache: ImageCache, named: str | None, *, delete: bool) -> None:
    """List other snapshots, and delete them if that is asked: not what nodes start from until this is pushed."""
    for snapshot_id, size in cache.others().items():
        if delete and snapshot_id != named:
            cache.delete(snapshot_id)
            console.print(f"deleted    {snapshot_id}")
            continue
        why = "nodes start from it until cluster.yaml is pushed" if snapshot_id == named else "--delete-old deletes it"
        console.print(f"[yellow]old[/yellow]        {snapshot_id}, of {size} GiB: {why}")
