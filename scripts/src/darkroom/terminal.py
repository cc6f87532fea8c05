"""What all commands share: the terminal, options that mean the same everywhere, and how trouble is said."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from darkroom.client import RequestRefused
from darkroom.trouble import Trouble

console = Console(highlight=False, soft_wrap=True)

CLUSTERS = Path("clusters")
LOCAL_CLUSTER = CLUSTERS / "local"
PICTURES = Path("pictures")

ClusterFolder = Annotated[Path, typer.Option(help="The cluster's folder.")]
Out = Annotated[Path, typer.Option(help="Where the pictures are saved.")]


@contextmanager
def clear_errors() -> Iterator[None]:
    """What a user can mend is said in a sentence, without a traceback; the exit status is 1 then."""
    try:
        yield
    except RequestRefused as error:
        console.print(f"[red]refused ({error.status}, {error.error.code})[/red] {escape(str(error))}")
    except Trouble as error:
        console.print(f"[red]{escape(str(error))}[/red]")
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        console.print(f"[red]{escape('; '.join(problems))}[/red]")
    except (BotoCoreError, ClientError) as error:
        console.print(f"[red]AWS:[/red] {escape(str(error))}")
    except httpx.HTTPError as error:
        console.print(f"[red]cannot reach the API[/red]: {escape(str(error))}")
    except OSError as error:
        words = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        console.print(f"[red]{escape(words)}[/red]")
    else:
        return
    raise typer.Exit(1)
