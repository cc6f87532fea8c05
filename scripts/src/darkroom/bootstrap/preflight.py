"""Everything that would stop a cluster from being brought up, said before anything is made. It changes nothing.

All findings at once, each with its remedy: whoever mends one thing does not want to learn of the next afterwards.
"""

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from botocore.exceptions import BotoCoreError, ClientError

from darkroom import programs
from darkroom.account import WrongAccount
from darkroom.bootstrap.eks import EksCluster
from darkroom.bootstrap.iam import SHARED, TAG, tag_of
from darkroom.bootstrap.steps import Context
from darkroom.cluster_files import EXAMPLE, check_cluster
from darkroom.images import IMAGES
from darkroom.trouble import Trouble
from darkroom_contract.gitops import GitOps
from darkroom_contract.gpus import MACHINES, Capacity, Gpu
from darkroom_contract.names import Actor, Bucket, image_repository_name


@dataclass(frozen=True)
class Finding:
    """Something that is in the way, or that somebody may want to see to."""

    words: str
    """What is so."""
    remedy: str
    """What to do about it."""
    is_error: bool = True
    """Whether nothing is made before it is mended."""


@dataclass(frozen=True)
class _Tool:
    """A program, how it is asked for its version, and the first that will do."""

    question: tuple[str, ...]
    #: Where the version is in what it answers.
    pattern: str
    first: tuple[int, int]
    where: str


_TOOLS = (
    # The first that asks EKS which versions of Kubernetes there are (eksctl-io/eksctl#8144).
    _Tool(("eksctl", "version"), r"^(\d+)\.(\d+)", (0, 202), "https://eksctl.io/installation/"),
    _Tool(
        ("aws", "--version"),
        r"aws-cli/(\d+)\.(\d+)",
        (2, 13),
        "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html",
    ),
    # One minor version before the cluster's, as far as Kubernetes lets clients be behind.
    _Tool(
        ("kubectl", "version", "--client", "--output=json"),
        r'"gitVersion": ?"v(\d+)\.(\d+)',
        (1, 34),
        "https://kubernetes.io/docs/tasks/tools/",
    ),
    _Tool(
        ("helm", "version", "--template", "{{.Version}}"),
        r"v(\d+)\.(\d+)",
        (3, 18),
        "https://helm.sh/docs/intro/install/",
    ),
    _Tool(("git", "--version"), r"git version (\d+)\.(\d+)", (2, 30), "https://git-scm.com/downloads"),
    _Tool(("gh", "--version"), r"gh version (\d+)\.(\d+)", (2, 40), "https://cli.github.com"),
    _Tool(
        ("cosign", "version", "--json"),
        r'"gitVersion": ?"v(\d+)\.(\d+)',
        (3, 0),
        "https://docs.sigstore.dev/cosign/system_config/installation/",
    ),
)

#: EC2's quotas of processors, by their codes (Service Quotas, "Amazon Elastic Compute Cloud"): each is for families of
#: instances together, p5 has one of its own as Spot alone.
_QUOTAS = {
    "L-1216C47A": "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
    "L-DB2E81BA": "Running On-Demand G and VT instances",
    "L-3819A6DF": "All G and VT Spot Instance Requests",
    "L-417A185B": "Running On-Demand P instances",
    "L-7212CCBC": "All P4, P3 and P2 Spot Instance Requests",
    "L-C4BD4855": "All P5 Spot Instance Requests",
}
_STANDARD = "L-1216C47A"
_ON_DEMAND = {Gpu.P4D: "L-417A185B", Gpu.P5: "L-417A185B"}
_SPOT = {Gpu.P4D: "L-7212CCBC", Gpu.P5: "L-C4BD4855"}
_NOT_THERE = ("NoSuchEntity", "RepositoryNotFoundException", "ResourceNotFoundException")
_ADDRESSES, _VPCS = ("ec2", "L-0263D0A3"), ("vpc", "L-F678F1CE")


def findings(context: Context) -> list[Finding]:
    """Everything that is in the way, and what is worth knowing."""
    found = [*_files(context), *tools(context), *_repository(context)]
    try:
        context.session.get_credentials()
    except WrongAccount as error:
        return [*found, Finding("nothing was asked of AWS", str(error))]
    checks: tuple[Callable[[Context], Iterator[Finding]], ...]
    checks = (_region, _gpus, _quotas, _network_quotas, _names, _eks)
    for check in checks:
        try:
            found += check(context)
        except (BotoCoreError, ClientError) as error:
            name = check.__name__.strip("_").replace("_", " ")
            found.append(
                Finding(
                    f"could not look at {name}: {error}", "see what these credentials lack, or whether AWS is there"
                )
            )
    return found


# Here


def _files(context: Context) -> Iterator[Finding]:
    file = f"{context.folder}/cluster.yaml"
    _, said = check_cluster(context.folder)
    for each in said:
        if each.is_error:
            yield Finding(str(each), "mend the file")
    if context.folder.resolve().name == EXAMPLE:
        remedy = f"cp -r {context.folder} clusters/<name>, change what is marked there, and bring that up"
        yield Finding(f"{context.folder} is the cluster to copy", remedy)
    gitops = context.cluster.gitops
    if gitops is None:
        yield Finding(f"{file} has no gitops", "say which repository Argo CD follows: gitops.repository")
    elif gitops.github is None:
        words = f"{gitops.repository} is not on GitHub, whose workflows build and sign the images"
        remedy = "push images to ECR yourself, and write them down by darkroom pin"
        yield Finding(words, remedy, is_error=False)


def tools(context: Context) -> Iterator[Finding]:
    """The programs that are missing or too old."""
    on_github = context.cluster.gitops and context.cluster.gitops.github
    for tool in _TOOLS:
        name, first = tool.question[0], ".".join(map(str, tool.first))
        if name == "gh" and not on_github:
            continue
        try:
            answer = programs.run(*tool.question)
        except Trouble as error:
            yield Finding(str(error), f"install {name} {first} or newer: {tool.where}")
            continue
        version = re.search(tool.pattern, answer, re.MULTILINE)
        if version is None:
            yield Finding(f"{' '.join(tool.question)} says no version: {answer.strip()[:100]}", f"install {tool.where}")
        elif (int(version[1]), int(version[2])) < tool.first:
            words = f"{name} {version[1]}.{version[2]} is older than {first}"
            yield Finding(words, f"install {first} or newer: {tool.where}")


def _repository(context: Context) -> Iterator[Finding]:
    """Argo CD and GitHub see what was pushed, and nothing else."""
    gitops = context.cluster.gitops
    if gitops is None:
        return
    git = ("git", "-C", str(context.root))
    try:
        # As it is written, and as git's own rewriting has it.
        origins = [
            programs.run(*git, *asked).strip()
            for asked in (("config", "remote.origin.url"), ("remote", "get-url", "origin"))
        ]
        changed = programs.run(*git, "status", "--porcelain").splitlines()
        head = programs.run(*git, "rev-parse", "HEAD").strip()
    except Trouble as error:
        yield Finding(f"this is no clone of your fork: {error}", "clone it, and run the command there")
        return
    if _place(gitops.repository) not in map(_place, origins):
        words = f"origin is {origins[0]}, and the cluster follows {gitops.repository}"
        yield Finding(words, "mend gitops.repository, or run the command in a clone of that repository")
    if changed:
        words = f"{len(changed)} files are not committed: {', '.join(line[3:] for line in changed[:5])}"
        yield Finding(words, "commit them and push, or take them away: the cluster is what is in Git")
    try:
        listed = programs.run(*git, "ls-remote", "origin", gitops.revision).split()
    except Trouble as error:
        yield Finding(f"origin cannot be asked: {error}", "see that git fetch works here")
        return
    if head not in listed:
        there = "is something else" if listed else "is not there"
        words = f"{gitops.revision} of origin {there}: it has not what is here ({head[:12]})"
        yield Finding(words, f"git push origin HEAD:{gitops.revision}, or git pull")
    if gitops.github and shutil.which("gh") and not _succeeds("gh", "auth", "status"):
        yield Finding("gh is not logged in", "gh auth login")


def _place(url: str) -> str:
    """The same for all URLs of a repository on GitHub."""
    return GitOps.model_construct(repository=url).github or url.removesuffix("/").removesuffix(".git")


def _succeeds(*command: str) -> bool:
    try:
        programs.run(*command)
    except Trouble:
        return False
    return True


# In AWS


def _region(context: Context) -> Iterator[Finding]:
    region = context.cluster.region
    every = context.ec2.describe_regions(AllRegions=True)["Regions"]
    found = next((each for each in every if each["RegionName"] == region), None)
    if found is None:
        yield Finding(f"there is no region {region}", "mend cluster.region")
    elif found["OptInStatus"] == "not-opted-in":
        remedy = f"aws account enable-region --region-name {region}, which takes minutes to hours"
        yield Finding(f"the region {region} is not enabled in this account", remedy)


def _gpus(context: Context) -> Iterator[Finding]:
    types = yaml.safe_load((context.root / "apps" / "gpu-nodes" / "instance-types.yaml").read_text())
    for pool in context.cluster.gpu_nodes.pools:
        wanted = types[pool.gpu]
        offered = context.ec2.describe_instance_type_offerings(Filters=[{"Name": "instance-type", "Values": wanted}])[
            "InstanceTypeOfferings"
        ]
        if not offered:
            words = f"{context.cluster.region} has no instances of {pool.gpu}: {', '.join(wanted)}"
            yield Finding(words, "take another class in cluster.gpuNodes.pools, or another region")


def needed_processors(context: Context) -> dict[str, int]:
    """The processors that the GPU pools may come to, by the quotas' codes: all GPUs, on the smallest machines."""
    needed: Counter[str] = Counter()
    for pool in context.cluster.gpu_nodes.pools:
        processors = pool.max_gpus * MACHINES[pool.gpu][0].cpus
        if pool.capacity is not Capacity.ON_DEMAND:
            needed[_SPOT.get(pool.gpu, "L-3819A6DF")] += processors
        if pool.capacity is not Capacity.SPOT:
            needed[_ON_DEMAND.get(pool.gpu, "L-DB2E81BA")] += processors
    return dict(needed)


def _quotas(context: Context) -> Iterator[Finding]:
    needed = {**needed_processors(context), **_base_processors(context)}
    for code, processors in needed.items():
        quota = _quota(context, "ec2", code)
        if quota < processors:
            words = f"the quota {_QUOTAS[code]} is {quota:g} processors, and the cluster may come to {processors}"
            remedy = f"{_asking_for_more(context, 'ec2', code, processors)}; AWS takes hours to days"
            # No node, no cluster; but GPU nodes come later, and fewer are some.
            yield Finding(words, remedy, is_error=code == _STANDARD)


def _base_processors(context: Context) -> dict[str, int]:
    """The processors of the nodes that are not Karpenter's, as long as they are not there."""
    groups = [] if context.eks() else EksCluster(context).config.get("managedNodeGroups", [])
    count = {group["instanceType"]: group.get("desiredCapacity", 2) for group in groups if "instanceType" in group}
    if not count:
        return {}
    kinds = context.ec2.describe_instance_types(InstanceTypes=[*count])["InstanceTypes"]
    return {_STANDARD: sum(kind["VCpuInfo"]["DefaultVCpus"] * count[kind["InstanceType"]] for kind in kinds)}


def _network_quotas(context: Context) -> Iterator[Finding]:
    if context.eks():
        return
    ec2 = context.ec2
    for (service, code), what, used in (
        (_ADDRESSES, "Elastic IP addresses", len(ec2.describe_addresses()["Addresses"])),
        (_VPCS, "VPCs", len(ec2.describe_vpcs()["Vpcs"])),
    ):
        quota = _quota(context, service, code)
        if used + 1 > quota:
            remedy = f"give one back, or {_asking_for_more(context, service, code, used + 1)}"
            yield Finding(f"{used} of {quota:g} {what} are in use, and the cluster needs one more", remedy)


def _asking_for_more(context: Context, service: str, code: str, value: int) -> str:
    ask = f"aws service-quotas request-service-quota-increase --region {context.cluster.region}"
    return f"{ask} --service-code {service} --quota-code {code} --desired-value {value}"


def _quota(context: Context, service: str, code: str) -> float:
    quotas = context.session.client("service-quotas")
    try:
        return quotas.get_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]["Value"]
    except quotas.exceptions.NoSuchResourceException:  # nobody has ever had it changed in this account
        return quotas.get_aws_default_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]["Value"]


def _names(context: Context) -> Iterator[Finding]:
    """What has a name that the cluster is to have, and is not the cluster's."""
    names, remedy = context.names, "remove it, or give the cluster another name"
    of_compositions = [names.role(actor) for actor in Actor if actor is not Actor.RUNTIME]
    of_compositions += [names.runtime_role(runtime) for runtime in context.files.runtimes]
    own = [names.provider_role, names.crossplane_role]
    paths = {**dict.fromkeys(of_compositions, names.role_path), **dict.fromkeys(own, names.own_path)}
    iam = context.iam
    for name, path in {**paths, names.github_role: "/"}.items():
        role = _found(lambda name=name: iam.get_role(RoleName=name)["Role"])  # type: ignore[misc]
        if role and (role["Path"] != path or (path == "/" and tag_of(role) != names.cluster)):
            yield Finding(f"the role {role['Arn']} is not the cluster's, and has the name of one that is to be", remedy)
    s3 = context.session.client("s3")
    for purpose in Bucket:
        bucket = names.bucket(purpose)
        if _refused(lambda bucket=bucket: s3.head_bucket(Bucket=bucket)):  # type: ignore[misc]
            yield Finding(f"the bucket {bucket} belongs to another account", "give the cluster another name")
    ecr = context.ecr
    for image in IMAGES:
        name = image_repository_name(image)
        repository = _found(lambda name=name: ecr.describe_repositories(repositoryNames=[name])["repositories"][0])  # type: ignore[misc]
        if repository:
            arn = repository["repositoryArn"]
            tags = ecr.list_tags_for_resource(resourceArn=arn)
            if tag_of(tags) is None:
                command = f"aws ecr tag-resource --resource-arn {arn} --tags Key={TAG},Value={SHARED}"
                remedy = f"remove it, or let Darkroom have it: {command}"
                yield Finding(f"the ECR repository {name} is there, and was not made for Darkroom", remedy)


def _eks(context: Context) -> Iterator[Finding]:
    cluster = context.cluster
    found = _found(lambda: context.eks_client.describe_cluster(name=cluster.eks_name)["cluster"])
    if found is None:
        if not (context.folder / "eksctl.yaml").exists():
            remedy = "copy clusters/example/eksctl.yaml and say the cluster's name and region in it"
            yield Finding(f"there is no {context.folder}/eksctl.yaml to make the EKS cluster by", remedy)
    elif found.get("tags", {}).get(TAG) != cluster.name:
        command = f"aws eks tag-resource --resource-arn {found['arn']} --tags {TAG}={cluster.name}"
        remedy = f"take another cluster.eksName, or, to have Darkroom in it: {command}"
        yield Finding(f"the EKS cluster {cluster.eks_name} is there, and was not made for this cluster", remedy)


def _found(ask: Callable[[], Any]) -> Mapping[str, Any] | None:
    """What AWS answers, or None if it says that there is no such thing."""
    try:
        answer: Mapping[str, Any] = ask()
    except ClientError as error:
        if error.response["Error"]["Code"] in (
            "NoSuchEntity",
            "RepositoryNotFoundException",
            "ResourceNotFoundException",
        ):
            return None
        raise
    return answer


def _refused(ask: Callable[[], Any]) -> bool:
    try:
        ask()
    except ClientError as error:
        return error.response["Error"]["Code"] == "403"
    return False
