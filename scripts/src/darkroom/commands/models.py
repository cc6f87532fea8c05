"""``darkroom models``: the models of a cluster, in its bucket."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from darkroom import account, endpoint
from darkroom.cluster_files import ClusterFiles, load_cluster
from darkroom.models import formats, layout
from darkroom.models.bucket import ModelBucket, Outcome, digests
from darkroom.new_runtime import only_cluster
from darkroom.terminal import CLUSTERS, clear_errors, console
from darkroom.trouble import Trouble, UsageError
from darkroom_contract.types import Engine

app = typer.Typer(no_args_is_help=True, help="Look after the models of a cluster.")

_Cluster = Annotated[
    Path | None, typer.Option(help="The cluster's folder. By default the only one under clusters/ with gitops.")
]


@app.command()
def push(
    paths: Annotated[list[Path], typer.Argument(help="Files, or folders of them.", metavar="FILE|FOLDER…")],
    to: Annotated[
        str | None,
        typer.Option(help=f"The folder: {', '.join(layout.FOLDERS)}, or one within. By default as the file's folder."),
    ] = None,
    cluster: _Cluster = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also where another file has the name.")] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Also files that run as programs when they are loaded.")
    ] = False,
) -> None:
    """Upload models, each checked by its checksum. What was interrupted goes on where it stopped.

    A file that is there already is not sent again. Broken files are refused, and pickles, which can run anything.
    """
    with clear_errors():
        folder, files = _cluster(cluster)
        plan = layout.plan(paths, to, files)
        for path in plan.left_out:
            console.print(f"[dim]left out[/dim]   {escape(str(path))}: no engine loads such a file")
        _check([upload.path for upload in plan.uploads], allow_pickle=allow_pickle)
        bucket = _bucket(files)
        for upload in plan.uploads:
            size = upload.path.stat().st_size
            with _progress(f"checksum of {upload.path.name}", size) as done:
                digest = digests(upload.path, done)
            with _progress(upload.key, size) as done:
                outcome = bucket.push(upload.key, upload.path, digest, done, replace=replace)
            console.print(f"[green]{outcome:9}[/green]  {escape(upload.key)}  [dim]sha256 {digest.sha256[:10]}[/dim]")
            _say_who_uses(folder, files, upload.key, outcome)


@app.command("list")
def list_models(cluster: _Cluster = None) -> None:
    """List the models in the bucket, and which runtimes name them.

    Prompts may name others, LoRAs say, and so may ComfyUI workflows that come with a prompt: that is not seen.
    """
    with clear_errors():
        _, files = _cluster(cluster)
        bucket = _bucket(files)
        table = Table("model", "size", "date", "sha256", "runtimes", box=None, pad_edge=False)
        models = bucket.models()
        for model in models:
            table.add_row(
                escape(model.key),
                decimal(model.size),
                f"{model.modified:%Y-%m-%d}",
                (model.sha256 or "unknown")[:10],
                ", ".join(layout.users(files, model.key)),
            )
        console.print(table)
        console.print(
            f"[dim]{len(models)} models, {decimal(sum(model.size for model in models))}, in {bucket.name}[/dim]"
        )


@app.command()
def pull(
    names: Annotated[list[str], typer.Argument(help="Keys as `darkroom models list` has them, or files' names.")],
    cluster: _Cluster = None,
    out: Annotated[Path, typer.Option(help="Where the files are saved.")] = Path(),
) -> None:
    """Download models, each checked by its checksum. What was interrupted goes on where it stopped."""
    with clear_errors():
        _, files = _cluster(cluster)
        bucket = _bucket(files)
        models = [bucket.find(name) for name in names]
        out.mkdir(parents=True, exist_ok=True)
        for model in models:
            with _progress(model.key, model.size) as done:
                path = bucket.pull(model, out, done)
            checked = f"sha256 {model.sha256[:10]}" if model.sha256 else "not checked: it was not pushed by darkroom"
            console.print(f"[green]saved[/green]      {escape(str(path))}  [dim]{checked}[/dim]")


def _cluster(folder: Path | None) -> tuple[Path, ClusterFiles]:
    folder = folder or only_cluster(CLUSTERS)
    files = load_cluster(folder)
    if files.cluster.models.efs:
        raise UsageError(
            f"the models of {files.cluster.name} are on the file system {files.cluster.names.models_file_system}, "
            "which only its network reaches: mount its access point on an instance there and copy them, docs/models.md"
        )
    return folder, files


def _bucket(files: ClusterFiles) -> ModelBucket:
    """The bucket in the cluster's own account, or in the local stack that runs."""
    names = files.cluster.names
    session, local_url = endpoint.aws(names)
    bucket = ModelBucket(session if local_url else account.session(files.cluster), names, local_url)
    if not bucket.is_there():
        raise UsageError(
            f"there is no bucket {bucket.name}: darkroom bootstrap brings the cluster up first; once it is, "
            "kubectl -n darkroom describe storage says why not"
        )
    return bucket


def _check(paths: list[Path], *, allow_pickle: bool) -> None:
    """Look into all files before any is sent; raises ``Trouble`` with all that is wrong."""
    wrong: list[str] = []
    for path in paths:
        try:
            formats.check(path, allow_pickle=allow_pickle)
        except formats.ModelRefused as error:
            wrong.append(str(error))
    if wrong:
        raise Trouble("\n".join(wrong))


def _say_who_uses(folder: Path, files: ClusterFiles, key: str, outcome: Outcome) -> None:
    runtimes = layout.users(files, key)
    checkpoint = key.removeprefix("checkpoints/")
    if runtimes:
        console.print(f"           named by {', '.join(runtimes)}")
    elif checkpoint != key:
        command = f"darkroom runtime new NAME --engine {Engine.SDWEBUI} --checkpoint {checkpoint} --cluster {folder}"
        console.print(f"           no runtime names it yet; next: {escape(command)}")
    if outcome is Outcome.REPLACED:
        console.print("           pods that run keep the old one, and new ones may get it for five minutes; then:")
        for name in runtimes or ["RUNTIME"]:
            console.print(f"           kubectl -n darkroom rollout restart deployment/{name}")


@contextmanager
def _progress(what: str, size: int) -> Iterator["_Done"]:
    columns = (
        *(SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn()),
        *(TransferSpeedColumn(), TimeRemainingColumn()),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield _Done(progress, size, what)


class _Done:
    """Counts bytes into a bar."""

    def __init__(self, progress: Progress, size: int, what: str) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=size)

    def __call__(self, size: int) -> None:
        self._progress.advance(self._task, size)
