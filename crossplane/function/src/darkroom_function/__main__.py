"""``python -m darkroom_function``: the composition function, as Crossplane runs it. ``--help`` lists its options."""

from typing import Any

import click
from crossplane.function import cli

from darkroom_function.server import FunctionRunner


@click.command()
@cli.standard_options
def main(**options: Any) -> None:
    """Serve Darkroom's compositions to Crossplane over gRPC."""
    cli.run(FunctionRunner(), **options)


if __name__ == "__main__":
    main()
