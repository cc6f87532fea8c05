"""``darkroom matrix``: what the workflows repeat for."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import typer

from darkroom import matrices
from darkroom.terminal import clear_errors
from darkroom.validate import clusters_folder

app = typer.Typer(no_args_is_help=True, help="What the workflows repeat for, as matrices of GitHub Actions.")


@app.command()
def clusters() -> None:
    """The clusters in AWS, with the role that a workflow has there."""
    _print(matrices.clusters)


@app.command()
def builds() -> None:
    """Every image for every registry."""
    _print(matrices.builds)


@app.command()
def pinned() -> None:
    """The images that clusters run."""
    _print(matrices.pinned)


def _print(matrix: Callable[[Path], Iterator[dict[str, str]]]) -> None:
    with clear_errors():
        typer.echo(json.dumps({"include": list(matrix(clusters_folder().parent))}))
