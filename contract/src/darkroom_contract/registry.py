"""A runtime's entry in the registry: an S3 object that its composition writes and the API reads. Pure."""

from darkroom_contract.types import Engine, Fact, RuntimeName


class RegistryEntry(Fact):
    """What the API knows of a runtime."""

    name: RuntimeName
    engine: Engine
    accepting: bool = True
    #: The checkpoint that v1alpha1 requests name to get this runtime.
    checkpoint: str | None = None
