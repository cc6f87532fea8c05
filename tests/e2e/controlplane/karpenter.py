"""The real Karpenter beside a control plane, with its kwok provider: its nodes are objects that kwok makes Ready.

Its CRDs are those of the AWS provider, with the rules that clusters have, and the kwok provider's own node class. It
knows the instance types that it is given, and no others.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom.local.kubelet import free_port
from tests.e2e.controlplane.api import Api
from tests.e2e.controlplane.binaries import component, source
from tests.e2e.controlplane.processes import Processes, answers

NAMESPACE = "kube-system"
_ZONES = ("eu-west-1a", "eu-west-1b", "eu-west-1c")


@dataclass(frozen=True)
class InstanceType:
    """A kind of machine that can be had."""

    name: str
    vcpus: int
    memory_gib: int
    gpus: int = 0

    def offerings(self) -> Iterator[dict[str, Any]]:
        """Where and how it is sold. Of the prices, only the order counts: more machine costs more, and Spot less."""
        for capacity, price in (("on-demand", self.memory_gib), ("spot", self.memory_gib / 3)):
            for zone in _ZONES:
                labels = {
                    "karpenter.sh/capacity-type": capacity,
                    "topology.kubernetes.io/zone": zone,
                    "karpenter.k8s.aws/instance-family": self.name.partition(".")[0],
                    "karpenter.k8s.aws/instance-size": self.name.partition(".")[2],
                }
                requirements = [{"key": key, "operator": "In", "values": [value]} for key, value in labels.items()]
                yield {"Price": price, "Available": True, "Requirements": requirements}

    def described(self) -> dict[str, Any]:
        """It, as the kwok provider reads it."""
        resources = {"cpu": f"{self.vcpus}", "memory": f"{self.memory_gib}Gi", "ephemeral-storage": "100Gi"}
        if self.gpus:
            resources["nvidia.com/gpu"] = f"{self.gpus}"
        return {
            "name": self.name,
            "architecture": "amd64",
            "operatingSystems": ["linux"],
            "resources": resources,
            "offerings": list(self.offerings()),
        }


#: Those that the GPU nodes may be, and one without a GPU.
INSTANCE_TYPES = (
    *(
        InstanceType(f"{family}.{size}", vcpus, vcpus * gib_per_vcpu, 1)
        for family, gib_per_vcpu in (("g4dn", 4), ("g5", 4), ("g6", 4), ("g6e", 8))
        for size, vcpus in (("xlarge", 4), ("2xlarge", 8), ("4xlarge", 16), ("8xlarge", 32))
    ),
    InstanceType("p4d.24xlarge", 96, 1152, 8),
    InstanceType("p5.4xlarge", 16, 256, 1),
    InstanceType("m6i.large", 2, 8),
)


def start(processes: Processes, api: Api, instance_types: Iterable[InstanceType] = INSTANCE_TYPES) -> None:
    """Bring Karpenter up, and wait until it is ready."""
    api.declare(crds())
    types = processes.folder / "instance-types.json"
    types.write_text(json.dumps([item.described() for item in instance_types]))
    health = free_port()
    process = processes.run(
        "karpenter",
        component("karpenter") / "bin" / "karpenter",
        environment={
            "KUBECONFIG": str(api.kubeconfig),
            "SYSTEM_NAMESPACE": NAMESPACE,
            "DISABLE_LEADER_ELECTION": "true",
            "INSTANCE_TYPES_FILE_PATH": str(types),
            "METRICS_PORT": f"{free_port()}",
            "HEALTH_PROBE_PORT": f"{health}",
        },
    )
    process.wait_until(answers(f"http://127.0.0.1:{health}/readyz"))


def crds() -> list[Path]:
    """Its kinds: AWS's provider's, which the kwok provider has too but for the node class, and that one."""
    aws, kwok = source("karpenter-provider-aws") / "pkg", source("karpenter") / "kwok"
    return [path for provider in (aws, kwok) for path in sorted((provider / "apis" / "crds").glob("*.yaml"))]
