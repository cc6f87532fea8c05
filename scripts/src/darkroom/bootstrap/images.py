"""Where the images are, who may push them, and the first build of them.

A fork has no images yet: Lambda needs its own in ECR, and nothing runs before GitHub's workflow has built them.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from darkroom import programs
from darkroom.bootstrap.iam import SHARED, Role, tag_of, tags
from darkroom.bootstrap.steps import Context
from darkroom.images import IMAGES, source_tag
from darkroom_contract.names import image_repository_name
from darkroom_function.policy import allow, document

if TYPE_CHECKING:
    from types_boto3_ecr import ECRClient

WORKFLOW = "images.yaml"
_GITHUB = "token.actions.githubusercontent.com"
_AUDIENCE = "sts.amazonaws.com"


@dataclass(frozen=True)
class Repositories:
    """ECR's repositories of the images. All clusters of the account and the region share them.

    Nothing in them expires. A cluster may be pinned to an image of any age, which no count or age could tell; and what
    has no tag are the images' signatures and bills of materials.
    """

    context: Context
    title = f"ECR repositories: {', '.join(map(image_repository_name, IMAGES))}"

    def is_done(self) -> bool:
        """Whether all are there, with what is set of them."""
        ecr = self.context.ecr
        return all(not self._missing(ecr, name) for name in IMAGES)

    def do(self) -> None:
        """Make those that are not, and set what is not set."""
        ecr = self.context.ecr
        for name in IMAGES:
            repository = image_repository_name(name)
            for missing in self._missing(ecr, name):
                match missing:
                    case "repository":
                        ecr.create_repository(
                            repositoryName=repository,
                            imageTagMutability="IMMUTABLE",
                            imageScanningConfiguration={"scanOnPush": True},
                            tags=tags(SHARED),
                        )
                    case "mutability":
                        ecr.put_image_tag_mutability(repositoryName=repository, imageTagMutability="IMMUTABLE")
                    case "scanning":
                        ecr.put_image_scanning_configuration(
                            repositoryName=repository, imageScanningConfiguration={"scanOnPush": True}
                        )
                    case "policy":
                        ecr.set_repository_policy(repositoryName=repository, policyText=self._for_lambda)

    def undo(self) -> None:
        """Take them away, with the images in them, unless other clusters use them."""
        if others(self.context):
            self.context.say("the repositories stay: other clusters of the account use them")
            return
        ecr = self.context.ecr
        for name in IMAGES:
            found = _repository(ecr, image_repository_name(name))
            if found and tag_of(ecr.list_tags_for_resource(resourceArn=found["repositoryArn"])) is not None:
                ecr.delete_repository(repositoryName=image_repository_name(name), force=True)

    def _missing(self, ecr: "ECRClient", name: str) -> list[str]:
        """What has to be made or set of a repository, in this order."""
        found = _repository(ecr, image_repository_name(name))
        settings = {
            "repository": found is not None,
            "mutability": found is None or found["imageTagMutability"] == "IMMUTABLE",
            "scanning": found is None or found["imageScanningConfiguration"]["scanOnPush"],
            "policy": name != "api" or (found is not None and _policy(ecr, name) == json.loads(self._for_lambda)),
        }
        return [what for what, is_so in settings.items() if not is_so]

    @property
    def _for_lambda(self) -> str:
        """That Lambda may pull the functions' image (Lambda developer guide, "Amazon ECR permissions")."""
        names = self.context.names
        functions = names.api_function_arn.replace(f"function:{names.api}", "function:*")
        statement = allow(
            "LambdaPulls",
            ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            service="lambda.amazonaws.com",
            conditions={"ArnLike": {"aws:SourceArn": functions}},
        )
        return document(statement)


@dataclass(frozen=True)
class GitHubRole:
    """GitHub as an identity provider of the account, and the role by which the repository's workflow pushes images."""

    context: Context

    @property
    def title(self) -> str:
        """Who may push."""
        return f"The role of {self.context.gitops.github}'s workflows at {self.context.gitops.revision}"

    def is_done(self) -> bool:
        """Whether GitHub is known with AWS as its audience, and the role is as it has to be."""
        iam = self.context.iam
        return _AUDIENCE in (self._audiences() or ()) and self._role.is_there(iam)

    def do(self) -> None:
        """Make both. An account has GitHub once: one that is there stays."""
        iam, audiences = self.context.iam, self._audiences()
        if audiences is None:
            iam.create_open_id_connect_provider(Url=f"https://{_GITHUB}", ClientIDList=[_AUDIENCE], Tags=tags(SHARED))
        elif _AUDIENCE not in audiences:
            iam.add_client_id_to_open_id_connect_provider(
                OpenIDConnectProviderArn=self.context.names.github_provider_arn, ClientID=_AUDIENCE
            )
        self._role.make(iam)

    def undo(self) -> None:
        """Take the role away, and GitHub, if it was made for clusters and this is the last."""
        iam, names = self.context.iam, self.context.names
        arn = names.github_provider_arn
        # Without its trust, which GitHub would be asked for: the repository may have gone before.
        Role(names.github_role, "/", "", names.cluster).remove(iam)
        if self._audiences() is None or others(self.context):
            return
        if tag_of(iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)) == SHARED:
            iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)

    def _audiences(self) -> list[str] | None:
        iam = self.context.iam
        try:
            arn = self.context.names.github_provider_arn
            return iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)["ClientIDList"]
        except iam.exceptions.NoSuchEntityException:
            return None

    @cached_property
    def _subjects(self) -> list[str]:
        """The names by which GitHub vouches for the repository, in its own spelling.

        With the ids in them for repositories of June 2026 or later, and for those that want it (GitHub Docs, "OpenID
        Connect reference", "Immutable subject claims").
        """
        found = json.loads(programs.run("gh", "api", f"repos/{self.context.gitops.github}"))
        owner, _, name = found["full_name"].partition("/")
        return [f"{owner}/{name}", f"{owner}@{found['owner']['id']}/{name}@{found['id']}"]

    @property
    def _role(self) -> Role:
        names, gitops = self.context.names, self.context.gitops
        trust = {
            "Sid": "AllowWorkflow",
            "Effect": "Allow",
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Principal": {"Federated": names.github_provider_arn},
            "Condition": {
                "StringEquals": {
                    f"{_GITHUB}:aud": _AUDIENCE,
                    # No pull request of a stranger's, and no other branch.
                    f"{_GITHUB}:sub": [f"repo:{name}:ref:refs/heads/{gitops.revision}" for name in self._subjects],
                }
            },
        }
        # ECR user guide, "Image push", and what a client asks before it pushes what is there, or an image's referrers.
        push = (
            *("BatchCheckLayerAvailability", "BatchGetImage", "CompleteLayerUpload", "DescribeImages"),
            *("GetDownloadUrlForLayer", "InitiateLayerUpload", "ListImageReferrers", "PutImage", "UploadLayerPart"),
        )
        permissions = [
            allow("LogIn", ["ecr:GetAuthorizationToken"], ["*"]),
            allow("PushImages", [f"ecr:{action}" for action in push], [names.image_repository_arn("*")]),
        ]
        trusted: Any = trust
        policies = {"permissions": document(*permissions)}
        return Role(names.github_role, "/", document(trusted), self.context.cluster.name, policies)


@dataclass(frozen=True)
class ImageBuilds:
    """The first build of what the registry does not have: started, not waited for."""

    context: Context
    title = "The build of the images, begun"

    def is_done(self) -> bool:
        """Whether the registry has all images of these sources, or of the pins, or the workflow runs."""
        return not missing_images(self.context) or self._runs()

    def do(self) -> None:
        """Start the workflow."""
        gitops = self.context.gitops
        programs.run(
            *("gh", "workflow", "run", WORKFLOW, "--repo", str(gitops.github), "--ref", gitops.revision),
        )

    def undo(self) -> None:
        """Nothing: a build ends by itself."""

    def _runs(self) -> bool:
        gitops = self.context.gitops
        listed = programs.run(
            *("gh", "run", "list", "--workflow", WORKFLOW, "--repo", str(gitops.github)),
            *("--branch", gitops.revision, "--limit", "5", "--json", "status"),
        )
        return any(run["status"] != "completed" for run in json.loads(listed or "[]"))


def missing_images(context: Context) -> list[str]:
    """The images that the registry has neither by the pin of images.yaml nor by the tag of the sources."""
    ecr = context.ecr
    return [name for name in IMAGES if not _has(ecr, context, name)]


def others(context: Context) -> set[str]:
    """The other clusters of the account, by the paths of their boundaries."""
    iam, own = context.iam, context.names.role_path
    pages = iam.get_paginator("list_policies").paginate(Scope="Local", PathPrefix="/darkroom/")
    return {policy["Path"] for page in pages for policy in page["Policies"]} - {own}


def _has(ecr: "ECRClient", context: Context, name: str) -> bool:
    pin = getattr(context.files.images, name)
    digest = pin.rpartition("@")[2]
    tried: list[Any] = [{"imageTag": source_tag(IMAGES[name], context.root)}]
    if pin.startswith(context.names.image_repository(name) + "@"):
        tried.append({"imageDigest": digest})
    for image in tried:
        try:
            ecr.describe_images(repositoryName=image_repository_name(name), imageIds=[image])
        except (ecr.exceptions.ImageNotFoundException, ecr.exceptions.RepositoryNotFoundException):
            continue
        return True
    return False


def _repository(ecr: "ECRClient", name: str) -> Any:
    try:
        return ecr.describe_repositories(repositoryNames=[name])["repositories"][0]
    except ecr.exceptions.RepositoryNotFoundException:
        return None


def _policy(ecr: "ECRClient", name: str) -> Any:
    try:
        return json.loads(ecr.get_repository_policy(repositoryName=image_repository_name(name))["policyText"])
    except ecr.exceptions.RepositoryPolicyNotFoundException:
        return None
