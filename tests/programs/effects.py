"""What programs do to the account, as far as the steps can see it. The account runs it, in the place of the players."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import yaml

#: Gives a client of a service in a region.
Clients: TypeAlias = Callable[[str, str], Any]
Config: TypeAlias = dict[str, Any]


class Refused(Exception):  # noqa: N818 - it is what the program says
    """The program would fail, with this message."""


def play(aws: Clients, asked: dict[str, str]) -> None:
    """Do what a program does; raises ``Refused``."""
    if asked["effect"] == "aws eks describe-cluster":
        if asked["name"] not in aws("eks", asked["region"]).list_clusters()["clusters"]:
            raise Refused(f"No cluster found for name: {asked['name']}")
        return
    _EFFECTS[asked["effect"]](aws, yaml.safe_load(asked["config"]))


def _create_cluster(aws: Clients, config: Config) -> None:
    """As eksctl does: its stack first, in it a VPC with public and private subnets, then the node groups."""
    name, region, tags = config["metadata"]["name"], config["metadata"]["region"], config["metadata"].get("tags", {})
    clouds, ec2, eks = (aws(service, region) for service in ("cloudformation", "ec2", "eks"))
    stack = f"eksctl-{name}-cluster"
    if any(each["StackName"] == stack for each in clouds.describe_stacks()["Stacks"]):
        raise Refused(f'creating CloudFormation stack "{stack}": AlreadyExistsException')
    topic = {"Resources": {"ForSomething": {"Type": "AWS::SNS::Topic"}}}
    clouds.create_stack(StackName=stack, TemplateBody=json.dumps(topic))
    vpc = ec2.create_vpc(CidrBlock="192.168.0.0/16")["Vpc"]["VpcId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    public = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=public, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    subnets = []
    for number, zone in enumerate("ab"):
        for is_public in (True, False):
            block = f"192.168.{32 * (2 * number + is_public)}.0/19"
            made = ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=f"{region}{zone}")
            subnets.append(made["Subnet"]["SubnetId"])
            table = public if is_public else ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
            ec2.associate_route_table(RouteTableId=table, SubnetId=subnets[-1])
    group = ec2.create_security_group(GroupName=f"eks-cluster-sg-{name}", Description="EKS", VpcId=vpc)["GroupId"]
    ec2.create_tags(Resources=[vpc, *subnets, group], Tags=[{"Key": key, "Value": tags[key]} for key in tags])
    eks.create_cluster(
        name=name,
        version=config["metadata"]["version"],
        roleArn=f"arn:aws:iam::123456789012:role/{stack}-ServiceRole",
        resourcesVpcConfig={"subnetIds": subnets, "securityGroupIds": [group]},
        tags=tags,
    )
    _create_nodegroups(aws, config)
    _create_addons(aws, config)


def _create_nodegroups(aws: Clients, config: Config) -> None:
    name, region = config["metadata"]["name"], config["metadata"]["region"]
    eks = aws("eks", region)
    there = eks.list_nodegroups(clusterName=name)["nodegroups"]
    subnets = eks.describe_cluster(name=name)["cluster"]["resourcesVpcConfig"]["subnetIds"]
    for group in config.get("managedNodeGroups", []):
        if group["name"] not in there:
            eks.create_nodegroup(
                clusterName=name,
                nodegroupName=group["name"],
                subnets=subnets,
                nodeRole="arn:aws:iam::123456789012:role/nodes",
            )


def _create_addons(aws: Clients, config: Config) -> None:
    name, region = config["metadata"]["name"], config["metadata"]["region"]
    eks = aws("eks", region)
    there = eks.list_addons(clusterName=name)["addons"]
    for addon in config.get("addons", []):
        if addon["name"] not in there:
            eks.create_addon(clusterName=name, addonName=addon["name"])


def _delete_cluster(aws: Clients, config: Config) -> None:
    name, region = config["metadata"]["name"], config["metadata"]["region"]
    clouds, ec2, eks = (aws(service, region) for service in ("cloudformation", "ec2", "eks"))
    network = eks.describe_cluster(name=name)["cluster"]["resourcesVpcConfig"]
    for group in eks.list_nodegroups(clusterName=name)["nodegroups"]:
        eks.delete_nodegroup(clusterName=name, nodegroupName=group)
    for addon in eks.list_addons(clusterName=name)["addons"]:
        eks.delete_addon(clusterName=name, addonName=addon)
    eks.delete_cluster(name=name)
    _delete_network(ec2, network["subnetIds"], network["securityGroupIds"])
    clouds.delete_stack(StackName=f"eksctl-{name}-cluster")


def _delete_network(ec2: Any, subnets: list[str], groups: list[str]) -> None:
    vpc = ec2.describe_subnets(SubnetIds=subnets)["Subnets"][0]["VpcId"]
    in_vpc = [{"Name": "vpc-id", "Values": [vpc]}]
    endpoints = ec2.describe_vpc_endpoints(Filters=in_vpc)["VpcEndpoints"]
    if found := [each["VpcEndpointId"] for each in endpoints if each["State"] != "deleted"]:
        raise Refused(f"the VPC cannot be deleted, since it has endpoints: {found}")
    for subnet in subnets:
        ec2.delete_subnet(SubnetId=subnet)
    for table in ec2.describe_route_tables(Filters=in_vpc)["RouteTables"]:
        if not any(association.get("Main") for association in table["Associations"]):
            for association in table["Associations"]:
                ec2.disassociate_route_table(AssociationId=association["RouteTableAssociationId"])
            ec2.delete_route_table(RouteTableId=table["RouteTableId"])
    for group in groups:
        ec2.delete_security_group(GroupId=group)
    attached = [{"Name": "attachment.vpc-id", "Values": [vpc]}]
    for gateway in ec2.describe_internet_gateways(Filters=attached)["InternetGateways"]:
        ec2.detach_internet_gateway(InternetGatewayId=gateway["InternetGatewayId"], VpcId=vpc)
        ec2.delete_internet_gateway(InternetGatewayId=gateway["InternetGatewayId"])
    ec2.delete_vpc(VpcId=vpc)


_EFFECTS = {
    "eksctl create addon": _create_addons,
    "eksctl create cluster": _create_cluster,
    "eksctl create nodegroup": _create_nodegroups,
    "eksctl delete cluster": _delete_cluster,
}
