"""What each kind of managed resource is in AWS: the table of a small provider, for an emulator. It calls AWS.

One module per service has the entries; ``lifecycle`` does with them what Crossplane's AWS provider does.
"""

from darkroom.local.kinds.external import Aws, External, Managed, Observation, Spec, present
from darkroom.local.kinds.lifecycle import EVERYTHING, KINDS, Failed, apply, delete, immutable_fields, observe

__all__ = [
    "EVERYTHING",
    "KINDS",
    "Aws",
    "External",
    "Failed",
    "Managed",
    "Observation",
    "Spec",
    "apply",
    "delete",
    "immutable_fields",
    "observe",
    "present",
]
