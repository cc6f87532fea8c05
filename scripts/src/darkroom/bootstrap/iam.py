"""IAM roles and policies as they have to be: compared with what there is, made, changed and taken away.

Documents are compared as JSON. Nothing is written that is so already.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from darkroom.cluster_files import CLUSTER_TAG
from darkroom.trouble import Trouble

if TYPE_CHECKING:
    from types_boto3_iam import IAMClient

#: With the name of the cluster that something was made for.
TAG = CLUSTER_TAG
#: That tag's value of what all clusters of an account share.
SHARED = "shared"
#: IAM keeps so many versions of a policy (IAM user guide, "IAM and AWS STS quotas").
_MOST_VERSIONS = 5


def tags(value: str) -> Any:
    """The tag of what a cluster is alone in using, by the cluster's name; ``SHARED`` otherwise."""
    return [{"Key": TAG, "Value": value}]


@dataclass(frozen=True)
class Policy:
    """A managed policy: of it there is one version, its default, that counts."""

    arn: str
    document: str
    tag: str
    """The value of its tag."""

    @property
    def name(self) -> str:
        """Its name, without its path."""
        return self.arn.rpartition("/")[2]

    @property
    def path(self) -> str:
        """Its path, with a slash at both ends."""
        return self.arn.partition(":policy")[2].removesuffix(self.name)

    def is_there(self, iam: "IAMClient") -> bool:
        """Whether it is there and says what it has to."""
        found = self._default(iam)
        return found is not None and found == json.loads(self.document)

    def make(self, iam: "IAMClient") -> None:
        """Make it, or make its document the default version. The oldest version goes if there are as many as may be."""
        found = self._default(iam)
        if found is None:
            iam.create_policy(PolicyName=self.name, Path=self.path, PolicyDocument=self.document, Tags=tags(self.tag))
        elif found != json.loads(self.document):
            versions = iam.list_policy_versions(PolicyArn=self.arn)["Versions"]
            if len(versions) >= _MOST_VERSIONS:
                others = (each for each in versions if not each["IsDefaultVersion"])
                oldest = min(others, key=lambda each: each["CreateDate"])
                iam.delete_policy_version(PolicyArn=self.arn, VersionId=oldest["VersionId"])
            iam.create_policy_version(PolicyArn=self.arn, PolicyDocument=self.document, SetAsDefault=True)

    def remove(self, iam: "IAMClient") -> None:
        """Take it away with all its versions; it must not be attached to anything."""
        if self._default(iam) is None:
            return
        for version in iam.list_policy_versions(PolicyArn=self.arn)["Versions"]:
            if not version["IsDefaultVersion"]:
                iam.delete_policy_version(PolicyArn=self.arn, VersionId=version["VersionId"])
        iam.delete_policy(PolicyArn=self.arn)

    def _default(self, iam: "IAMClient") -> Any:
        try:
            version = iam.get_policy(PolicyArn=self.arn)["Policy"]["DefaultVersionId"]
            return document_of(iam.get_policy_version(PolicyArn=self.arn, VersionId=version)["PolicyVersion"])
        except iam.exceptions.NoSuchEntityException:
            return None


@dataclass(frozen=True)
class Role:
    """A role with policies of its own."""

    name: str
    path: str
    trust: str
    tag: str
    """The value of its tag."""
    policies: Mapping[str, str] = field(default_factory=dict)
    """The documents of its policies by their names."""
    boundary: str | None = None
    """The ARN of its permissions boundary."""

    def is_there(self, iam: "IAMClient") -> bool:
        """Whether it is there with its trust, its boundary and its policies, and no other policies of its own."""
        found = _role(iam, self.name)
        if found is None:
            return False
        return (
            found["Path"] == self.path
            and found["AssumeRolePolicyDocument"] == json.loads(self.trust)
            and found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn") == self.boundary
            and self._policies(iam) == {name: json.loads(text) for name, text in self.policies.items()}
        )

    def make(self, iam: "IAMClient") -> None:
        """Make it, or change what is not as it has to be; raises ``Trouble`` if it is somebody else's."""
        found = _role(iam, self.name)
        if found is None:
            bounded: Any = {"PermissionsBoundary": self.boundary} if self.boundary else {}
            iam.create_role(
                RoleName=self.name,
                Path=self.path,
                AssumeRolePolicyDocument=self.trust,
                Tags=tags(self.tag),
                **bounded,
            )
        else:
            self._mend(iam, found)
        there = self._policies(iam)
        for name in there.keys() - self.policies.keys():
            iam.delete_role_policy(RoleName=self.name, PolicyName=name)
        for name, text in self.policies.items():
            if there.get(name) != json.loads(text):
                iam.put_role_policy(RoleName=self.name, PolicyName=name, PolicyDocument=text)

    def remove(self, iam: "IAMClient") -> None:
        """Take it away with its policies; somebody else's of that name stays."""
        found = _role(iam, self.name)
        if found is None or found["Path"] != self.path or tag_of(found) != self.tag:
            return
        for name in self._policies(iam):
            iam.delete_role_policy(RoleName=self.name, PolicyName=name)
        iam.delete_role(RoleName=self.name)

    def _mend(self, iam: "IAMClient", found: Mapping[str, Any]) -> None:
        if found["Path"] != self.path or {"Key": TAG, "Value": self.tag} not in found.get("Tags", []):
            raise Trouble(
                f"the role {self.name} is there already and is not Darkroom's: remove it, or give the cluster another "
                "name"
            )
        if found["AssumeRolePolicyDocument"] != json.loads(self.trust):
            iam.update_assume_role_policy(RoleName=self.name, PolicyDocument=self.trust)
        if self.boundary and found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn") != self.boundary:
            iam.put_role_permissions_boundary(RoleName=self.name, PermissionsBoundary=self.boundary)

    def _policies(self, iam: "IAMClient") -> dict[str, Any]:
        names: Sequence[str] = iam.list_role_policies(RoleName=self.name)["PolicyNames"]
        return {name: document_of(iam.get_role_policy(RoleName=self.name, PolicyName=name)) for name in names}


def document_of(answer: Mapping[str, Any]) -> Any:
    """The document in an answer of IAM's: it is encoded as in a URL, unless the SDK has decoded it."""
    document = answer.get("PolicyDocument", answer.get("Document"))
    return json.loads(unquote(document)) if isinstance(document, str) else document


def tag_of(found: Mapping[str, Any]) -> str | None:
    """The value of Darkroom's tag of what IAM, EC2 or ECR describes; None if it has none."""
    pairs = found.get("Tags", found.get("tags", []))
    return next((each.get("Value") for each in pairs if each.get("Key") == TAG), None)


def _role(iam: "IAMClient", name: str) -> Mapping[str, Any] | None:
    try:
        return iam.get_role(RoleName=name)["Role"]
    except iam.exceptions.NoSuchEntityException:
        return None
