"""A runtime's entry in the registry: an S3 object that its composition writes and the API reads. Pure."""

from typing import Annotated

from darkroom_contract.types import IF_ANY, Engine, Fact, RuntimeName


class RegistryEntry(Fact):
    """What the API knows of a runtime."""

    name: RuntimeName
    engine: Engine
    accepting: bool = True
    #: The checkpoint that v1alpha1 requests name to get this runtime.
    checkpoint: str | None = None
    #: The names of its workflows, to be told to whoever asks for another. Each is an object of its own.
    workflows: Annotated[tuple[str, ...], IF_ANY] = ()
