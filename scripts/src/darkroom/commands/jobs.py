"""``darkroom prompt`` and ``cancel``: the API's jobs."""

import signal
import uuid
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image
from rich.markup import escape

from darkroom import endpoint
from darkroom.client import Client
from darkroom.prompting import build_request, output_format, save_pictures, show_progress, submit
from darkroom.terminal import PICTURES, Out, clear_errors, console
from darkroom.trouble import UsageError
from darkroom_contract.types import PictureFormat
from darkroom_contract.v1 import JobStatus, JobView
from darkroom_demo.notes import NOTE

#: As shells call the end by Ctrl-C.
_INTERRUPTED = 128 + signal.SIGINT

Url = Annotated[str | None, typer.Option(envvar="DARKROOM_URL", help="The API, with its stage.")]
ApiKey = Annotated[
    str | None, typer.Option(envvar="DARKROOM_API_KEY", help="Better by the variable: arguments are visible.")
]


def prompt(
    runtime: Annotated[str, typer.Argument(help="The runtime's name: its folder under runtimes/.")],
    text: Annotated[str, typer.Argument(help="What to draw.")],
    image: Annotated[Path | None, typer.Option(help="A picture to start from.", exists=True, dir_okay=False)] = None,
    workflow: Annotated[
        str | None,
        typer.Option(help="One of the runtime's workflows, or a file in ComfyUI's API format with {{prompt}} in it."),
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="name=value: an input of the named workflow. May be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Draw the same picture again.", min=0)] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.", min=1, max=150)] = None,
    picture_format: Annotated[
        PictureFormat | None, typer.Option("--format", help="The pictures' format, instead of the engine's.")
    ] = None,
    quality: Annotated[
        int | None, typer.Option(help="Smaller or better: WebP is lossless at 100.", min=1, max=100)
    ] = None,
    out: Out = PICTURES,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Send a prompt, watch the job and save its pictures. Without a URL: to the local stack that runs."""
    with clear_errors(), api_client(url, api_key) as client:
        output = output_format(picture_format, quality)
        request = build_request(
            uuid.uuid4().hex,
            runtime,
            text,
            image=image,
            workflow=workflow,
            inputs=inputs or (),
            settings={"seed": seed, "steps": steps},
        )
        out.mkdir(parents=True, exist_ok=True)
        try:
            with console.status(f"sending to {client.url}"):
                job = submit(client, request.model_copy(update={"output": output}))
            console.print(f"job {job.id}")
            job = show_progress(console, client, job)
        except KeyboardInterrupt:
            console.print(f"the job goes on, if it was accepted; this takes it back: darkroom cancel {request.id}")
            raise typer.Exit(_INTERRUPTED) from None
        show_result(client, job, out)


def cancel(
    job_id: Annotated[str, typer.Argument(help="The job's id.")], url: Url = None, api_key: ApiKey = None
) -> None:
    """Cancel a job. What has ended stays as it is. Without a URL: at the local stack that runs."""
    with clear_errors(), api_client(url, api_key) as client:
        job = client.cancel(job_id)
        console.print(f"job {job.id} {'had ended: ' if job.finished_at else ''}{job.status}")


def show_result(client: Client, job: JobView, out: Path) -> None:
    """Say how a job ended, and save its pictures; exit status 1 when it has none."""
    if job.status is not JobStatus.COMPLETED:
        console.print(f"[red]{job.status}[/red]" + (f"  {escape(job.error.message)}" if job.error else ""))
        raise typer.Exit(1)
    console.print(f"[green]{job.status}[/green]")
    for path in save_pictures(client, job, out):
        console.print(f"[green]picture[/green]  {escape(str(path.resolve()))}")
        if note := _note(path):
            console.print(f"[yellow]note[/yellow]     {escape(note)}")


def _note(file: Path) -> str | None:
    """What the demo runtime says in a picture of what it could not draw; None of other files."""
    try:
        with Image.open(file, formats=["PNG"]) as image:
            note = image.info.get(NOTE)
    except (OSError, Image.DecompressionBombError):
        return None
    return note if isinstance(note, str) else None


def api_client(url: str | None, api_key: str | None) -> Client:
    """The API as given, or else the local stack's."""
    if url is not None and api_key is not None:
        return Client(url, api_key, on_retry=_say_retry)
    if url is not None or api_key is not None:
        given, missing = ("DARKROOM_URL", "DARKROOM_API_KEY") if url else ("DARKROOM_API_KEY", "DARKROOM_URL")
        console.print(f"[red]{missing} is missing[/red]: it goes with {given}; without both it is the local stack")
        raise typer.Exit(2)
    stack = endpoint.find()
    if stack is None:
        console.print(
            "[red]no local stack runs in this folder[/red]: start one with [bold]make local[/bold], "
            "or set DARKROOM_URL and DARKROOM_API_KEY"
        )
        raise typer.Exit(2)

    def on_retry(tries: int) -> None:
        if endpoint.find() != stack:
            raise UsageError("the local stack has stopped, and what it had is gone")
        _say_retry(tries)

    return Client(stack.url, stack.api_key, on_retry=on_retry)


def _say_retry(tries: int) -> None:
    if tries == 1:
        console.print("[yellow]the API cannot answer now[/yellow]: trying again for a minute")
