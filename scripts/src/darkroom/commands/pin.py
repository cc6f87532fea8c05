"""``darkroom pin``: the digests of a cluster's images."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from darkroom import pin as pins
from darkroom import pin_request
from darkroom.terminal import clear_errors, console
from darkroom.trouble import UsageError


def pin(
    cluster: Annotated[Path, typer.Argument(help="The cluster's folder.", exists=True, file_okay=False)],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE=REFERENCE]...",
            help="agent=REGISTRY/darkroom/agent@sha256:…, say. Without any: those of the sources as they are.",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            help="The public key that images are signed by, instead of GitHub's identity of the workflow images.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    pull_request: Annotated[
        bool, typer.Option("--pull-request", help="By a pull request on GitHub; files are left as they are.")
    ] = False,
    registry: Annotated[
        str | None, typer.Option(help="Another registry than the cluster's ECR, 127.0.0.1:5000 say.")
    ] = None,
) -> None:
    """Write digests of images into a cluster's images.yaml: what the registry confirms, and whose signature verifies.

    If any image is refused, nothing is written, and the exit status is 1.
    """
    with clear_errors():
        given = _given(images or [])
        described = pins.load(cluster)
        repositories = pins.Repositories(described, registry)
        verify = pins.by_key(key) if key else pins.keyless(described)
        references = given or _built(repositories, cluster)
        if pull_request:
            proposal = pin_request.propose(cluster, references, repositories, verify)
            changes, url = proposal.changes, proposal.url
        else:
            changes, url = pins.pin(cluster, references, repositories, verify), None
        for change in changes:
            console.print(f"[green]{change.image}[/green]  {change.old or 'nothing'} → {change.new}")
        if not changes:
            console.print("nothing has changed")
        if url:
            console.print(f"pull request  {escape(url)}")


def _given(images: list[str]) -> dict[str, str]:
    if bare := [image for image in images if "=" not in image]:
        raise UsageError(f"{', '.join(bare)}: say IMAGE=REFERENCE, agent=REGISTRY/darkroom/agent@sha256:… say")
    pairs = [image.partition("=")[::2] for image in images]
    references = dict(pairs)
    if len(references) < len(pairs):
        raise UsageError("an image is given twice: give it once")
    return references


def _built(repositories: pins.Repositories, cluster: Path) -> dict[str, str]:
    """The images of the sources that are checked out; what has not been built is said."""
    found = pins.built(repositories, pins.root_of(cluster))
    for image, tagged in found.missing.items():
        console.print(f"[yellow]{image}[/yellow]  not built yet: {tagged}")
    return found.references
