"""A runtime's entry in the registry: an S3 object that its composition writes and the API reads. Pure."""

from collections.abc import Iterable

from darkroom_contract.types import Engine, Fact, RuntimeName


class RegistryEntry(Fact):
    """What the API knows of a runtime."""

    name: RuntimeName
    engine: Engine
    accepting: bool = True
    #: The checkpoint that v1alpha1 requests name to get this runtime.
    checkpoint: str | None = None


def by_checkpoint(entries: Iterable[RegistryEntry], checkpoint: str) -> RegistryEntry | None:
    """The runtime that serves a checkpoint by its name, or None."""
    return next((entry for entry in entries if entry.checkpoint == checkpoint), None)
