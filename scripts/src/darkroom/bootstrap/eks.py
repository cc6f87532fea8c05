"""The EKS cluster, by eksctl, and what GPU nodes need of its network."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import yaml

from darkroom import programs
from darkroom.bootstrap.iam import tag_of, tags
from darkroom.bootstrap.steps import ActRequired, Context
from darkroom.trouble import Trouble

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import TagSpecificationTypeDef

#: What Karpenter finds subnets and security groups by: see apps/gpu-nodes.
_DISCOVERY = "karpenter.sh/discovery"
#: The add-ons without which no node becomes ready. The others run on nodes, and eksctl waits until each of them runs.
_BEFORE_NODES = ("eks-pod-identity-agent", "vpc-cni", "kube-proxy")


@dataclass(frozen=True)
class EksCluster:
    """The EKS cluster with its node groups and add-ons, as the cluster's ``eksctl.yaml`` says."""

    context: Context

    @property
    def title(self) -> str:
        """Which cluster."""
        return f"The EKS cluster {self.context.cluster.eks_name}"

    def is_done(self) -> bool:
        """Whether it runs, with every node group and add-on of the file."""
        return (
            self.context.eks_runs
            and not self._missing_nodegroups()
            and not self._missing_addons()
            and not self._nodegroups("CREATING", "CREATE_FAILED")
        )

    def do(self) -> None:
        """Make it, a quarter of an hour or more, or what an earlier run did not get to."""
        self.context.wait("CloudFormation ends what an earlier run began", self._is_settled)
        if self.context.eks() is None:
            self._create()
        self.context.wait("EKS makes the cluster", lambda: self.context.eks_runs)
        self._refuse_failures()
        # eksctl leaves alone what is there already.
        if self._missing_addons() & {*_BEFORE_NODES}:
            addons = [each for each in self.config["addons"] if each["name"] in _BEFORE_NODES]
            with NamedTemporaryFile("w", prefix="eksctl-", suffix=".yaml") as file:
                file.write(yaml.safe_dump({**self.config, "addons": addons}))
                file.flush()
                programs.show("eksctl", "create", "addon", "--config-file", file.name)
        if self._missing_nodegroups():
            programs.show("eksctl", "create", "nodegroup", "--config-file", str(self._file))
        if self._missing_addons():
            programs.show("eksctl", "create", "addon", "--config-file", str(self._file))

    def undo(self) -> None:
        """Take it away, with all that runs in it, and its VPC. Its pods are not asked, as nothing comes after them.

        A cluster that eksctl did not make stays: others may have things in it.
        """
        if self._stack() is None:
            if self.context.eks() is not None:
                self.context.say(f"{self.context.cluster.eks_name} stays: eksctl did not make it")
            return
        programs.show(
            *("eksctl", "delete", "cluster", "--config-file", str(self._file), "--wait"),
            "--disable-nodegroup-eviction",
        )

    def _create(self) -> None:
        if stack := self._stack():
            raise ActRequired(
                f"an earlier attempt left the CloudFormation stack {self._stack_name} behind ({stack}): see there what "
                f"went wrong, then take it away: eksctl delete cluster --config-file {self._file} --wait"
            )
        programs.show("eksctl", "create", "cluster", "--config-file", str(self._file), "--write-kubeconfig=false")

    def _is_settled(self) -> bool:
        return not any(status.endswith("_IN_PROGRESS") for status in self._stacks().values())

    def _refuse_failures(self) -> None:
        """Raises ``ActRequired`` where an earlier run left behind what eksctl neither uses nor makes anew."""
        eks, region = self.context.cluster.eks_name, self.context.cluster.region
        groups = self._missing_nodegroups() | self._nodegroups("CREATE_FAILED")
        of_groups = {f"eksctl-{eks}-nodegroup-{name}" for name in groups}
        of_addons = tuple(f"eksctl-{eks}-addon-{name}-" for name in self._missing_addons())  # of their roles
        for stack, status in self._stacks().items():
            if stack in of_groups or stack.startswith(of_addons):
                raise ActRequired(
                    f"an earlier attempt left the CloudFormation stack {stack} behind ({status}): see there what went "
                    f"wrong, then take it away: aws cloudformation delete-stack --region {region} --stack-name {stack}"
                )

    def _stack(self) -> str | None:
        """The status of the stack that eksctl makes the cluster by."""
        return self._stacks().get(self._stack_name)

    def _stacks(self) -> dict[str, str]:
        """The status of each stack that eksctl made for the cluster, by their names."""
        kinds = ("cluster", "nodegroup-", "addon-")
        starts = tuple(f"eksctl-{self.context.cluster.eks_name}-{kind}" for kind in kinds)
        pages = self.context.session.client("cloudformation").get_paginator("describe_stacks").paginate()
        return {
            stack["StackName"]: stack["StackStatus"]
            for page in pages
            for stack in page["Stacks"]
            if stack["StackName"].startswith(starts) and stack["StackStatus"] != "DELETE_COMPLETE"
        }

    @property
    def _stack_name(self) -> str:
        return f"eksctl-{self.context.cluster.eks_name}-cluster"

    def _missing_nodegroups(self) -> set[str]:
        there = self.context.eks_client.list_nodegroups(clusterName=self.context.cluster.eks_name)
        return _named(self.config, "managedNodeGroups") - {*there["nodegroups"]}

    def _nodegroups(self, *statuses: str) -> set[str]:
        """Those of the file that are there, and as EKS says so."""
        eks, cluster = self.context.eks_client, self.context.cluster.eks_name
        return {
            name
            for name in _named(self.config, "managedNodeGroups") - self._missing_nodegroups()
            if eks.describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"]["status"] in statuses
        }

    def _missing_addons(self) -> set[str]:
        there = self.context.eks_client.list_addons(clusterName=self.context.cluster.eks_name)
        return _named(self.config, "addons") - {*there["addons"]}

    @property
    def _file(self) -> Path:
        return self.context.folder / "eksctl.yaml"

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """What the file says; nothing where there is none, with a cluster that was made otherwise."""
        if not self._file.exists():
            return {}
        found: Mapping[str, Any] = yaml.safe_load(self._file.read_text())
        return found


def _named(config: Mapping[str, Any], what: str) -> set[str]:
    return {each["name"] for each in config.get(what, [])}


@dataclass(frozen=True)
class _Network:
    """The network of an EKS cluster."""

    vpc: str
    security_group: str
    """The one that EKS made, by which nodes and the control plane reach each other."""
    private: Mapping[str, str]
    """The route tables of the private subnets, by the subnets."""
    tags: Mapping[str, Mapping[str, str]]
    """Of those subnets and of the security group."""


def _network(context: Context) -> _Network | None:
    """The network, None as long as there is no cluster. A subnet is private if no internet gateway is routed to it."""
    if not context.eks_runs:
        return None
    ec2 = context.ec2
    config = context.eks_client.describe_cluster(name=context.cluster.eks_name)["cluster"]["resourcesVpcConfig"]
    subnets = ec2.describe_subnets(SubnetIds=config["subnetIds"])["Subnets"]
    vpc = subnets[0]["VpcId"]
    tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"]
    main, of_subnet = "", {}
    for table in tables:
        for association in table["Associations"]:
            if association.get("Main"):
                main = table["RouteTableId"]
            elif "SubnetId" in association:
                of_subnet[association["SubnetId"]] = table["RouteTableId"]
    public = {
        table["RouteTableId"]
        for table in tables
        if any(route.get("GatewayId", "").startswith("igw-") for route in table["Routes"])
    }
    routed = {subnet["SubnetId"]: of_subnet.get(subnet["SubnetId"], main) for subnet in subnets}
    private = {subnet: table for subnet, table in routed.items() if table not in public}
    if not private:
        raise Trouble(
            f"the EKS cluster {context.cluster.eks_name} has no private subnet, and GPU nodes get no public addresses"
        )
    group = config["clusterSecurityGroupId"]
    groups = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    found: dict[str, Mapping[str, str]] = {
        str(each.get("SubnetId", each.get("GroupId"))): {tag["Key"]: tag["Value"] for tag in each.get("Tags", [])}
        for each in (*subnets, *groups)
    }
    return _Network(vpc, group, private, {place: found[place] for place in (*private, group)})


@dataclass(frozen=True)
class NodeNetwork:
    """Where Karpenter starts nodes: in the private subnets alone, so that none of them has a public address."""

    context: Context
    title = "The tags by which GPU nodes find their subnets and security group"

    def is_done(self) -> bool:
        """Whether all have the tag that Karpenter looks for."""
        network = _network(self.context)
        wanted = self.context.cluster.eks_name
        return network is not None and all(found.get(_DISCOVERY) == wanted for found in network.tags.values())

    def do(self) -> None:
        """Tag them."""
        if network := _network(self.context):
            tag = {"Key": _DISCOVERY, "Value": self.context.cluster.eks_name}
            self.context.ec2.create_tags(Resources=[*network.tags], Tags=[tag])  # type: ignore[list-item]

    def undo(self) -> None:
        """Take the tags away."""
        if network := _network(self.context):
            self.context.ec2.delete_tags(Resources=[*network.tags], Tags=[{"Key": _DISCOVERY}])


@dataclass(frozen=True)
class S3Endpoint:
    """A way from the private subnets to S3 past the NAT gateway, which costs by the gigabyte: models are large."""

    context: Context
    title = "The S3 gateway endpoint of the private subnets"

    def is_done(self) -> bool:
        """Whether there is one that all their route tables lead to."""
        network = _network(self.context)
        if network is None:
            return False
        endpoint = self._endpoint(network.vpc)
        return endpoint is not None and not {*network.private.values()} - {*endpoint["RouteTableIds"]}

    def do(self) -> None:
        """Make it, or lead the route tables that are missing to one that is there."""
        network = _network(self.context)
        if network is None:
            return
        tables, endpoint = {*network.private.values()}, self._endpoint(network.vpc)
        if endpoint is None:
            tag: TagSpecificationTypeDef = {
                "ResourceType": "vpc-endpoint",
                "Tags": tags(self.context.cluster.name),
            }
            self.context.ec2.create_vpc_endpoint(
                VpcId=network.vpc,
                ServiceName=self._service,
                VpcEndpointType="Gateway",
                RouteTableIds=sorted(tables),
                TagSpecifications=[tag],
            )
        else:
            missing = sorted(tables - {*endpoint["RouteTableIds"]})
            self.context.ec2.modify_vpc_endpoint(VpcEndpointId=endpoint["VpcEndpointId"], AddRouteTableIds=missing)

    def undo(self) -> None:
        """Take it away, if it was made for this cluster: eksctl deletes no VPC that has one."""
        network = _network(self.context)
        endpoint = self._endpoint(network.vpc) if network else None
        if endpoint and tag_of(endpoint) == self.context.cluster.name:
            self.context.ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])

    @property
    def _service(self) -> str:
        return f"com.amazonaws.{self.context.cluster.region}.s3"

    def _endpoint(self, vpc: str) -> Any:
        found = self.context.ec2.describe_vpc_endpoints(
            Filters=[
                {"Name": "vpc-id", "Values": [vpc]},
                {"Name": "service-name", "Values": [self._service]},
                {"Name": "vpc-endpoint-type", "Values": ["Gateway"]},
            ]
        )["VpcEndpoints"]
        return next((each for each in found if each["State"].lower() in ("available", "pending")), None)
