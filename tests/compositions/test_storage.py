from typing import Any

import pytest

from tests.compositions import specs
from tests.compositions.provider import Provider, managed, of_kind

EFS = {
    "vpcId": "vpc-0123456789abcdef0",
    "subnetIds": ["subnet-0a123456789abcdef", "subnet-0b123456789abcdef"],
    "nodeSecurityGroupId": "sg-0123456789abcdef0",
}


@pytest.fixture
def storage() -> Provider:
    return Provider("Storage", specs.storage())


@pytest.mark.parametrize("models", [{}, {"efs": EFS}])
def test_whatever_holds_data_or_protects_it_stays_in_aws(storage: Provider, models: dict[str, Any]) -> None:
    storage.spec["models"] = models
    around_a_file_system = {"AccessPoint", "MountTarget", "SecurityGroup", "SecurityGroupIngressRule"}
    for resource in managed(storage.settle()):
        goes = "Delete" in resource.manifest()["spec"]["managementPolicies"]
        assert goes == (resource.kind in around_a_file_system), resource.key


def test_a_file_system_that_is_there_is_taken_as_it_is(storage: Provider) -> None:
    storage.spec["models"] = {"efs": {**EFS, "fileSystemId": "fs-0123456789abcdef0"}}
    composed = storage.settle()
    manifest = composed.resources["models-file-system"].resource.manifest()
    assert manifest["metadata"]["annotations"] == {"crossplane.io/external-name": "fs-0123456789abcdef0"}
    assert manifest["spec"]["forProvider"].keys() == {"region", "throughputMode", "tags"}


def test_models_on_a_file_system_have_no_bucket(storage: Provider) -> None:
    assert storage.settle().status.models_bucket == "studio-models-111122223333-eu-west-1"
    storage.spec["models"] = {"efs": EFS}
    composed = storage.settle()
    assert composed.ready
    assert "models" not in composed.resources
    assert composed.status.models_bucket is None
    assert composed.status.models_file_system_id == "id-of-studio-storage.models-file-system"
    assert composed.status.models_access_point_id == "id-of-studio-storage.models-access-point"
    assert {"jobs", "outputs"} <= composed.resources.keys()


def test_the_ids_of_a_file_system_are_not_known_at_first(storage: Provider) -> None:
    storage.spec["models"] = {"efs": EFS}
    status = storage.wanted().status
    assert status.models_file_system_id is None
    assert status.models_access_point_id is None


def test_only_the_nodes_reach_the_file_system(storage: Provider) -> None:
    storage.spec["models"] = {"efs": EFS}
    composed = storage.settle()
    (group,) = (item for item in storage.observed.values() if item["kind"] == "SecurityGroup")
    group_id = group["status"]["atProvider"]["id"]
    for item in storage.observed.values():
        if item["kind"] == "MountTarget":
            assert item["status"]["atProvider"]["securityGroups"] == [group_id]
        if item["kind"] == "SecurityGroupIngressRule":
            assert item["status"]["atProvider"]["securityGroupId"] == group_id
    (rule,) = of_kind(composed, "SecurityGroupIngressRule")
    assert (rule["referencedSecurityGroupId"], rule["fromPort"], rule["toPort"]) == (
        EFS["nodeSecurityGroupId"],
        2049,
        2049,
    )


def test_every_subnet_has_a_mount_target_and_a_new_one_changes_no_other(storage: Provider) -> None:
    storage.spec["models"] = {"efs": EFS}
    before = of_kind(storage.settle(), "MountTarget")
    assert [target["subnetId"] for target in before] == EFS["subnetIds"]
    storage.spec["models"] = {"efs": {**EFS, "subnetIds": [*EFS["subnetIds"], "subnet-0c123456789abcdef"]}}
    composed = storage.settle()
    assert composed.ready
    assert of_kind(composed, "MountTarget")[:2] == before
