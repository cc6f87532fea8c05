"""AWS names, ARNs, URLs and S3 keys. No other module builds one. Pure."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from darkroom_contract.types import DEFAULT_TENANT


class Bucket(StrEnum):
    """What a cluster's buckets are for."""

    MODELS = "models"
    JOBS = "jobs"
    OUTPUTS = "outputs"


class Actor(StrEnum):
    """Who acts on AWS: each has a role (the runtimes' agents one each) and a permissions boundary."""

    API = "api"
    RUNTIME = "runtime"
    KEDA = "keda"
    KARPENTER = "karpenter"
    NODE = "node"
    MOUNTPOINT = "mountpoint"
    JANITOR = "janitor"


class JobFact(StrEnum):
    """The objects under a job's key, each with one writer."""

    REQUEST = "request.json"
    PUBLISHED = "published.json"
    CANCEL = "cancel"
    STATE = "state.json"
    ANSWERING = "answering.json"
    RESULT = "result.json"


class Problem(StrEnum):
    """What an alarm says is wrong."""

    WAITS_LONG = "waits-long"
    NOT_EMPTY = "not-empty"
    FUNCTION_FAILS = "function-fails"
    FUNCTION_THROTTLED = "function-throttled"
    SERVER_ERRORS = "server-errors"


@dataclass(frozen=True)
class Names:
    """The names of one cluster's resources in one account and region.

    Limits: SQS 80 characters, IAM role and Lambda function 64, S3 bucket 63; with a cluster of at most 20 and a
    runtime or tenant of at most 32 characters every name fits.
    """

    cluster: str
    account: str
    region: str

    @cached_property
    def partition(self) -> str:
        """The AWS partition of the region."""
        return next(
            (name for start, name in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")) if self.region.startswith(start)),
            "aws",
        )

    @property
    def _domain(self) -> str:
        return "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com"

    def _arn(self, service: str, resource: str) -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def _global_arn(self, service: str, resource: str) -> str:
        account = "" if service == "s3" else self.account
        return f"arn:{self.partition}:{service}::{account}:{resource}"

    # Topics and queues

    @property
    def prompt_topic(self) -> str:
        """The topic that every prompt goes through."""
        return f"{self.cluster}-prompts"

    @property
    def result_topic(self) -> str:
        """The topic that every notification goes through; also the name of the queue that keeps them."""
        return f"{self.cluster}-results"

    def topic_arn(self, topic: str) -> str:
        """The ARN of a topic by its name."""
        return self._arn("sns", topic)

    def runtime_queue(self, runtime: str) -> str:
        """The queue of one runtime's jobs."""
        return f"{self.cluster}-runtime-{runtime}"

    def dead_letter_queue(self, runtime: str) -> str:
        """The queue of the messages that a runtime gave up on."""
        return f"{self.cluster}-dead-letter-{runtime}"

    @property
    def result_dead_letter_queue(self) -> str:
        """The queue of the notifications that could not be delivered to the queue that keeps them."""
        return f"{self.cluster}-results-dead-letter"

    @property
    def interruption_queue(self) -> str:
        """The queue by which Karpenter learns that instances are about to go."""
        return f"{self.cluster}-karpenter-interruptions"

    def queue_arn(self, queue: str) -> str:
        """The ARN of a queue by its name."""
        return self._arn("sqs", queue)

    def queue_url(self, queue: str) -> str:
        """The URL of a queue by its name."""
        return f"https://sqs.{self.region}.{self._domain}/{self.account}/{queue}"

    # Images

    @property
    def registry(self) -> str:
        """ECR of the account and region; all clusters there share it."""
        return f"{self.account}.dkr.ecr.{self.region}.{self._domain}"

    def image_repository(self, image: str) -> str:
        """The repository of one of ``images.yaml``'s images, with its registry."""
        return f"{self.registry}/{image_repository_name(image)}"

    def image_repository_arn(self, image: str) -> str:
        """The ARN of the repository of one of ``images.yaml``'s images, or a pattern of them."""
        return self._arn("ecr", f"repository/{image_repository_name(image)}")

    # Events

    def interruption_rule(self, event: str) -> str:
        """The EventBridge rule that hands one kind of event to Karpenter."""
        return f"{self.cluster}-karpenter-{event}"

    def event_rule_arn(self, rule: str) -> str:
        """The ARN of a rule of the default event bus by its name."""
        return self._arn("events", f"rule/{rule}")

    # Buckets

    def bucket(self, purpose: Bucket) -> str:
        """The name of one of the cluster's buckets: unique among all accounts by the account id."""
        return f"{self.cluster}-{purpose}-{self.account}-{self.region}"

    def bucket_arn(self, bucket: str, key: str = "") -> str:
        """The ARN of a bucket, or of the keys in it that a pattern matches."""
        return self._global_arn("s3", f"{bucket}/{key}" if key else bucket)

    @property
    def models_file_system(self) -> str:
        """The file system of the models, where they are on one: its name, its creation token, its security group."""
        return f"{self.cluster}-models"

    # Identity

    @property
    def role_path(self) -> str:
        """The path of every role of the cluster."""
        return f"/darkroom/{self.cluster}/"

    def runtime_role(self, runtime: str) -> str:
        """The role of a runtime's queue agent."""
        return f"{self.cluster}-runtime-{runtime}"

    def role(self, actor: Actor) -> str:
        """The role of an actor of whom a cluster has one."""
        return f"{self.cluster}-{actor}"

    def role_arn(self, role: str) -> str:
        """The ARN of one of the cluster's roles by its name."""
        return self._global_arn("iam", f"role{self.role_path}{role}")

    def permissions_boundary(self, actor: Actor) -> str:
        """The policy that bounds an actor's role."""
        return f"{self.cluster}-{actor}-boundary"

    def permissions_boundary_arn(self, actor: Actor) -> str:
        """The ARN of the policy that bounds an actor's role."""
        return self._global_arn("iam", f"policy{self.role_path}{self.permissions_boundary(actor)}")

    @property
    def own_path(self) -> str:
        """The path of the roles and policies that bring a cluster up: out of reach of what composes the others."""
        return f"/darkroom-own/{self.cluster}/"

    @property
    def provider_role(self) -> str:
        """The role of Crossplane's AWS providers, by its name: it makes everything else of the cluster."""
        return f"{self.cluster}-provider-aws"

    @property
    def provider_boundary(self) -> str:
        """The policy that bounds the providers' role."""
        return f"{self.cluster}-provider-aws-boundary"

    @property
    def crossplane_role(self) -> str:
        """The role of Crossplane's core, which pulls packages."""
        return f"{self.cluster}-crossplane"

    def own_role_arn(self, role: str) -> str:
        """The ARN of one of the roles that bring a cluster up, by its name."""
        return self._global_arn("iam", f"role{self.own_path}{role}")

    def own_policy_arn(self, policy: str) -> str:
        """The ARN of one of the policies that bring a cluster up, by its name."""
        return self._global_arn("iam", f"policy{self.own_path}{policy}")

    @property
    def github_role(self) -> str:
        """The role by which the repository's workflows push images; it has no path."""
        return f"{self.cluster}-github"

    @property
    def github_role_arn(self) -> str:
        """The ARN of the role by which the repository's workflows push images."""
        return self._global_arn("iam", f"role/{self.github_role}")

    @property
    def github_provider_arn(self) -> str:
        """The ARN of GitHub as an identity provider; an account has one."""
        return self._global_arn("iam", "oidc-provider/token.actions.githubusercontent.com")

    @property
    def permissions_boundary_arns(self) -> str:
        """The ARN that matches the permissions boundaries of the cluster's roles."""
        return self._global_arn("iam", f"policy{self.role_path}*")

    def aws_policy_arn(self, policy: str) -> str:
        """The ARN of one of AWS's own policies by its name."""
        return f"arn:{self.partition}:iam::aws:policy/{policy}"

    @property
    def node_instance_profile(self) -> str:
        """The instance profile of the nodes that Karpenter starts; of the same path as the roles."""
        return self.role(Actor.NODE)

    def instance_profile_arn(self, profile: str) -> str:
        """The ARN of instance profiles by a path and name, or a pattern of them."""
        return self._global_arn("iam", f"instance-profile/{profile}")

    @property
    def ec2_service(self) -> str:
        """EC2, as the trust policies of instances' roles name it."""
        return f"ec2.{self._domain}"

    def ec2_arn(self, resource: str, *, owned: bool = True) -> str:
        """The ARN of EC2 resources by a pattern. Images and snapshots are not owned: they have no account."""
        return self._arn("ec2", resource) if owned else f"arn:{self.partition}:ec2:{self.region}::{resource}"

    @property
    def public_parameters_arn(self) -> str:
        """The ARN that matches the parameters that AWS publishes, such as the newest images."""
        return f"arn:{self.partition}:ssm:{self.region}::parameter/aws/service/*"

    def eks_cluster_arn(self, eks_name: str) -> str:
        """The ARN of the EKS cluster, by EKS's own name of it."""
        return self._arn("eks", f"cluster/{eks_name}")

    def eks_arn(self, resource: str) -> str:
        """The ARN of EKS's own resources by a pattern: what belongs to a cluster has the cluster's name in it."""
        return self._arn("eks", resource)

    def efs_arn(self, resource: str) -> str:
        """The ARN of EFS's resources by a pattern."""
        return self._arn("elasticfilesystem", resource)

    # API

    @property
    def api(self) -> str:
        """The API's Lambda function, and the REST API in front of it."""
        return f"{self.cluster}-api"

    @property
    def api_function_arn(self) -> str:
        """The ARN of the API's Lambda function."""
        return self._arn("lambda", f"function:{self.api}")

    @property
    def api_invoke_arn(self) -> str:
        """The URI by which API Gateway invokes the function."""
        path = f"path/2015-03-31/functions/{self.api_function_arn}/invocations"
        return f"arn:{self.partition}:apigateway:{self.region}:lambda:{path}"

    def api_execution_arn(self, rest_api_id: str) -> str:
        """The ARN that matches every call of every stage of a REST API."""
        return self._arn("execute-api", f"{rest_api_id}/*/*/*")

    def api_gateway_arn(self, path: str) -> str:
        """The ARN of what API Gateway keeps, by its path or a pattern of paths; it has no account."""
        return f"arn:{self.partition}:apigateway:{self.region}::{path}"

    def api_url(self, rest_api_id: str, stage: str) -> str:
        """Where a stage of a REST API is called."""
        return f"https://{rest_api_id}.execute-api.{self.region}.{self._domain}/{stage}"

    @property
    def api_log_group(self) -> str:
        """Where the function logs."""
        return f"/aws/lambda/{self.api}"

    def log_group_arn(self, log_group: str) -> str:
        """The ARN that matches every stream of a log group."""
        return self._arn("logs", f"log-group:{log_group}:*")

    def alarm_arn(self, alarm: str) -> str:
        """The ARN of an alarm by its name, or a pattern of them."""
        return self._arn("cloudwatch", f"alarm:{alarm}")

    def tenant(self, tenant: str) -> str:
        """The API keys and the usage plan of one tenant."""
        return f"{self.cluster}-{tenant}"


def image_repository_name(image: str) -> str:
    """The repository of one of ``images.yaml``'s images, without its registry; of ``""`` how all of them begin."""
    return f"darkroom/{image}"


def alarm_name(resource: str, problem: Problem) -> str:
    """The alarm that says what is wrong with a queue, or with the API; ``resource`` is that one's name."""
    return f"{resource}-{problem}"


# S3 keys


def job_key(tenant: str, job_id: str, fact: JobFact) -> str:
    """Where one fact of a job is kept, in the bucket for jobs."""
    return f"{JOBS_PREFIX}{tenant}/{job_id}/{fact}"


def split_job_key(key: str) -> tuple[str, str, str] | None:
    """The tenant, the job and the object's own name of a key under a job; None of any other key."""
    parts = key.removeprefix(JOBS_PREFIX).split("/")
    return (parts[0], parts[1], parts[2]) if key.startswith(JOBS_PREFIX) and len(parts) == 3 else None


def archived_result_key(tenant: str, job_id: str, nonce: str) -> str:
    """Where a failed result of a job that is run again is kept; ``nonce`` is the result's own."""
    return f"{JOBS_PREFIX}{tenant}/{job_id}/result-{nonce}.json"


def registry_key(runtime: str) -> str:
    """Where a runtime's entry in the registry is kept, in the bucket for jobs."""
    return f"{REGISTRY_PREFIX}{runtime}.json"


def workflow_key(runtime: str, workflow: str) -> str:
    """Where a runtime's named workflow is kept, in the bucket for jobs."""
    return f"{WORKFLOWS_PREFIX}{runtime}/{workflow}.json"


def registered_runtime(key: str) -> str:
    """The runtime whose entry in the registry has this key."""
    return key.removeprefix(REGISTRY_PREFIX).removesuffix(".json")


JOBS_PREFIX = "jobs/"
REGISTRY_PREFIX = "runtimes/"
WORKFLOWS_PREFIX = "workflows/"
#: What the janitor remembers from one run to the next, in the bucket for jobs.
JANITOR_KEY = "janitor.json"


def output_folder(tenant: str, prefix: str | None, label: str) -> str:
    """The folder of a job's pictures in the output bucket, without a slash at its end.

    The default tenant's is the AWS guidance's, ``<prefix>/<id>``; every other tenant writes under its own name.
    """
    segments = [tenant if tenant != DEFAULT_TENANT else None, prefix, label]
    return "/".join(segment for segment in segments if segment)


def picture_key(folder: str, label: str, run: str, number: int, extension: str) -> str:
    """The key of a job's picture: ``number`` counts from 1, ``run`` is four hex digits, ``extension`` has its dot."""
    return f"{folder}/{label}-{run}-{number}{extension}"


def response_key(folder: str, label: str, run: str) -> str:
    """The key of the engine's response to a job."""
    return f"{folder}/{label}-{run}.out"


def s3_url(bucket: str, key: str) -> str:
    """The ``s3://`` URL of an object."""
    return f"s3://{bucket}/{key}"


def split_s3_url(url: str) -> tuple[str, str]:
    """The bucket and the key of an ``s3://`` URL."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


# API keys


def api_key_prefix(tenant: str) -> str:
    """The ten hex digits with which every API key of a tenant begins: the API knows the tenant by them."""
    return hashlib.sha256(tenant.encode()).hexdigest()[:10]
