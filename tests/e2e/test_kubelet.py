"""The stand-in of the kubelet runs pods as their specs say."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil
import pytest
from moto.server import ThreadedMotoServer

from darkroom_contract.names import Bucket, Names
from tests.charts.helm import APPS, one, render
from tests.e2e.controlplane.api import Api, Object, condition, is_gone, is_true
from tests.e2e.controlplane.cluster import Cluster
from tests.e2e.kubelet import sandbox
from tests.e2e.kubelet.image import AGENT, REPOSITORY, Image, engine
from tests.e2e.kubelet.kubelet import CSI_TAINT, Kubelet
from tests.e2e.kubelet.sandbox import missing
from tests.e2e.kubelet.trial import (
    KEPT,
    MODELS_VOLUME,
    NAMESPACE,
    NODE,
    SHARED,
    SHARED_VOLUME,
    SHELL,
    STAYS,
    PodOf,
    eventually,
    exec_probe,
    noting,
    said,
    shell,
    sidecar,
    state,
    touch,
    waiting,
)
from tests.workflows import text_to_image

PYTHON = "python"
USER = 10001
CHECKPOINT = "v1-5-pruned-emaonly.safetensors"
IMAGES = {name: f"registry.example/{name}@sha256:{'0' * 64}" for name in ("agent", "sdwebui", "comfyui")}


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Api:
    if not cluster.processes:
        pytest.skip("the cluster has kubelets of its own")
    if reason := missing():
        pytest.skip(reason)
    cluster.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    return cluster.api


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / CHECKPOINT).write_bytes(b"weights")
    return folder


@pytest.fixture
def notes(models: Path) -> Path:
    """A file that the containers of a pod write into, beyond the pod's end."""
    folder = models / "shared"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    (folder / "notes").unlink(missing_ok=True)
    return folder / "notes"


@pytest.fixture(scope="module")
def kubelet(api: Api, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelet]:
    images = {
        SHELL: Image(("sh", "-c"), user=USER, group=USER),
        PYTHON: Image(("python", "-c"), user=USER, group=USER),
        IMAGES["agent"]: AGENT,
        IMAGES["sdwebui"]: engine("webui"),
        IMAGES["comfyui"]: engine("comfyui"),
    }
    folder = tmp_path_factory.mktemp("kubelet")
    with Kubelet(api, images=images, models=models, folder=folder, backoff_seconds=0.05) as kubelet:
        make_node(api, NODE)
        yield kubelet


@pytest.fixture
def run(api: Api, kubelet: Kubelet) -> Callable[..., PodOf]:
    def run(*containers: Object, node: str = NODE, **spec: Any) -> PodOf:
        return PodOf(api, kubelet, {"containers": list(containers), **spec}, node)

    return run


def make_node(api: Api, name: str, *taints: Object) -> None:
    api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"taints": list(taints)}})


def test_containers_start_in_order_and_each_waits_for_the_one_before(run: Callable[..., PodOf]) -> None:
    pod = run(
        shell("cat /shared/notes; " + STAYS, **SHARED),
        initContainers=[
            sidecar(noting("one"), "one", **SHARED, startupProbe=exec_probe("test -e /shared/notes")),
            shell("echo two >> /shared/notes", "two", **SHARED),
            sidecar(noting("three"), "three", **SHARED, startupProbe=exec_probe("grep three /shared/notes")),
        ],
        volumes=SHARED_VOLUME,
    )
    item = pod.ready()
    said(pod, "+one", "two", "+three", "running")
    assert item["status"]["phase"] == "Running"
    assert state(item, "two")["state"]["terminated"]["exitCode"] == 0
    assert all(state(item, name)["started"] for name in ("one", "three", "main"))


def test_what_comes_after_a_sidecar_waits_for_its_startup_probe(run: Callable[..., PodOf], api: Api) -> None:
    probe = exec_probe("test -e /shared/loaded", failureThreshold=100)
    pod = run(
        shell(STAYS, **SHARED),
        initContainers=[sidecar("until test -e /shared/go; do sleep 0.05; done; touch /shared/loaded; " + STAYS,
                                "engine", **SHARED, startupProbe=probe)],
        volumes=SHARED_VOLUME,
    )  # fmt: skip
    item = pod.wait(lambda item: "running" in state(item, "engine").get("state", {}))
    assert not state(item, "engine")["started"]
    assert condition(item, "Initialized") == "False"
    assert state(item, "main")["state"]["waiting"]["reason"] == "PodInitializing"
    assert item["status"]["phase"] == "Pending"
    touch(pod, "engine", "/shared/go")
    assert condition(pod.ready(), "Initialized") == "True"


def test_readiness_comes_and_goes_in_the_status(run: Callable[..., PodOf]) -> None:
    probe = exec_probe("test -e /shared/ready", failureThreshold=1)
    pod = run(shell(STAYS, **SHARED, readinessProbe=probe), volumes=SHARED_VOLUME)
    item = pod.wait(lambda item: state(item, "main").get("started", False))
    assert condition(item, "ContainersReady") == "False"
    touch(pod, "main", "/shared/ready")
    item = pod.ready()
    assert state(item, "main")["ready"]
    root = Path(f"/proc/{pod.kubelet.processes(pod.name, 'main')[0].pid}/root")
    (root / "shared/ready").unlink()
    pod.wait(lambda item: condition(item, "Ready") == "False")


def test_the_environment_and_the_arguments_are_the_specs(run: Callable[..., PodOf], api: Api) -> None:
    objects = {"ConfigMap": {"data": {"COLOUR": "teal"}}, "Secret": {"stringData": {"key": "hush"}}}
    for kind, content in objects.items():
        api.apply({"apiVersion": "v1", "kind": kind, "metadata": {"name": "given", "namespace": NAMESPACE}, **content})
    fields = {"NAME": "metadata.name", "IP": "status.podIP", "ON": "spec.nodeName"}
    tell = (
        "import json, os, sys, socket, time; "
        "print(json.dumps([sys.argv[1:], dict(os.environ), socket.gethostname()]), flush=True); time.sleep(999)"
    )
    pod = run(
        {
            "name": "main",
            "image": PYTHON,
            "args": [
                tell,
                "$(NAME):$(HELLO)",
                "$$(NAME) $(UNKNOWN)",
            ],
            "envFrom": [{"configMapRef": {"name": "given"}}],
            "env": [
                {"name": "WORLD", "value": "world"},
                {"name": "HELLO", "value": "hello $(WORLD)"},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "given", "key": "key"}}},
                *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()),
            ],
        }
    )
    item = pod.ready()
    eventually(pod, pod.log)
    arguments, environment, hostname = json.loads(pod.log())
    assert arguments == [f"{pod.name}:hello world", "$(NAME) $(UNKNOWN)"]
    assert hostname == pod.name
    expected = {"COLOUR": "teal", "WORLD": "world", "KEY": "hush", "NAME": pod.name, "ON": NODE, "HOME": "/"}
    assert expected.items() <= environment.items()
    assert environment["IP"] == item["status"]["podIP"]
    assert not environment.keys() & {"SHELL", "USER", "VIRTUAL_ENV", "KUBECONFIG", "AWS_REGION"}


def test_a_container_has_its_user_no_privileges_and_a_root_that_nobody_writes(run: Callable[..., PodOf]) -> None:
    script = (
        "id -u; id -G; grep -E 'CapEff|NoNewPrivs' /proc/self/status; touch /root-file; touch /tmp/file; "
        "touch /scratch/file && ls /scratch; echo $$$$; "
    )
    pod = run(
        shell(
            script + STAYS,
            securityContext={"readOnlyRootFilesystem": True},
            volumeMounts=[{"name": "scratch", "mountPath": "/scratch"}],
        ),
        securityContext={"runAsUser": 12345, "runAsGroup": 23456, "runAsNonRoot": True},
        volumes=[{"name": "scratch", "emptyDir": {}}],
    )
    pod.ready()
    said(
        pod,
        "12345",
        "23456",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "touch: cannot touch '/root-file': Read-only file system",
        "touch: cannot touch '/tmp/file': Read-only file system",
        "file",
        "1",
        "running",
    )
    assert not Path("/scratch").exists()


@pytest.mark.usefixtures("api")
def test_where_containers_users_may_not_read_python_no_pod_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    above, python = tmp_path / "above", tmp_path / "above" / "python"
    python.mkdir(parents=True)
    above.chmod(0o700)
    monkeypatch.setattr(sandbox, "PROGRAMS", (python,))
    python.chmod(0o755)
    assert missing() is None
    python.chmod(0o700)
    assert missing() == f"containers have users of their own, which may not read {python}"


def test_volumes_are_where_the_spec_mounts_them(run: Callable[..., PodOf], api: Api) -> None:
    metadata = {"name": "files", "namespace": NAMESPACE}
    api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a.txt": "a", "b.txt": "b"}})
    pod = run(
        shell(
            "ls /models/checkpoints; touch /models/x; ls /config; cat /one/b.txt; echo; cat /info/name; echo; "
            "ls /nested/deep; " + STAYS,
            volumeMounts=[
                {"name": "models", "mountPath": "/models", "readOnly": True},
                {"name": "config", "mountPath": "/config"},
                {"name": "config", "mountPath": "/one/b.txt", "subPath": "b.txt"},
                {"name": "info", "mountPath": "/info"},
                {"name": "models", "mountPath": "/nested/deep", "subPath": "checkpoints"},
            ],
        ),
        volumes=[
            {"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}},
            {"name": "config", "configMap": {"name": "files"}},
            {
                "name": "info",
                "projected": {
                    "sources": [
                        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                        {"serviceAccountToken": {"path": "token", "audience": "pods.eks.amazonaws.com"}},
                    ]
                },
            },
        ],
    )
    pod.ready()
    refused = "touch: cannot touch '/models/x': Read-only file system"
    said(pod, CHECKPOINT, refused, "a.txt", "b.txt", "b", pod.name, CHECKPOINT, "running")


def test_two_pods_listen_on_the_same_port(run: Callable[..., PodOf], kubelet: Kubelet) -> None:
    serve = {"name": "main", "image": SHELL, "args": ["exec python -m http.server 7860 --directory /sys/class/net"]}
    probe = {"readinessProbe": {"httpGet": {"path": "/", "port": 7860}, "periodSeconds": 1}}
    pods = [run({**serve, **probe}) for _ in range(2)]
    addresses = {pod.ready()["status"]["podIP"] for pod in pods}
    assert len(addresses) == 2
    for address in addresses:
        assert httpx.get(f"http://{address}:7860", trust_env=False).is_success


def test_sigterm_comes_to_the_main_container_first_then_to_the_sidecars_in_reverse_order(
    run: Callable[..., PodOf], notes: Path
) -> None:
    pod = run(
        shell(noting("main", on_end="sleep 0.3; "), **KEPT),
        initContainers=[sidecar(noting(name, on_end="sleep 0.3; "), name, **KEPT) for name in ("one", "two")],
        volumes=MODELS_VOLUME,
    )
    pod.ready()
    eventually(pod, lambda: notes.exists() and "+main" in notes.read_text())
    pod.delete()
    pod.gone()
    assert notes.read_text().split() == ["+one", "+two", "+main", "-main", "-two", "-one"]


def test_who_ignores_sigterm_is_killed_when_its_grace_is_over(run: Callable[..., PodOf]) -> None:
    pod = run(shell('trap "" TERM; echo running; while :; do sleep 0.05; done'), terminationGracePeriodSeconds=3)
    pod.ready()
    said(pod, "running")
    pod.delete()
    item = pod.wait(lambda item: item["status"]["phase"] == "Failed")
    ended = state(item, "main")["state"]["terminated"]
    assert ended["exitCode"] == 128 + signal.SIGKILL
    pod.gone()


def test_a_pre_stop_hook_runs_before_sigterm(run: Callable[..., PodOf], notes: Path) -> None:
    pod = run(
        shell(
            noting("main"),
            lifecycle={"preStop": {"exec": {"command": ["sh", "-c", "echo hook >> /shared/notes"]}}},
            **KEPT,
        ),
        volumes=MODELS_VOLUME,
    )
    pod.ready()
    eventually(pod, notes.exists)
    pod.delete()
    pod.gone()
    assert notes.read_text().split() == ["+main", "hook", "-main"]


def test_a_liveness_probe_restarts_its_container_alone(run: Callable[..., PodOf]) -> None:
    probe = exec_probe("! test -e /shared/hangs", failureThreshold=2)
    pod = run(
        shell(STAYS),
        initContainers=[sidecar("rm -f /shared/hangs; " + STAYS, "engine", **SHARED, livenessProbe=probe)],
        volumes=SHARED_VOLUME,
    )
    pod.ready()
    touch(pod, "engine", "/shared/hangs")
    item = pod.wait(lambda item: state(item, "engine")["restartCount"] == 1 and is_true("Ready")(item))
    assert state(item, "engine")["lastState"]["terminated"]["exitCode"] == 0
    assert state(item, "main")["restartCount"] == 0
    said(pod, "running", "terminated", "running", container="engine")


def test_a_container_that_fails_again_and_again_backs_off(run: Callable[..., PodOf]) -> None:
    pod = run(shell("echo no; exit 3"))
    item = pod.wait(lambda item: waiting(item).get("reason") == "CrashLoopBackOff")
    assert state(item, "main")["lastState"]["terminated"]["exitCode"] == 3
    assert condition(item, "Ready") == "False"
    pod.delete()
    pod.gone()


def test_a_pod_that_cannot_start_says_why_and_can_be_deleted(run: Callable[..., PodOf]) -> None:
    reference = {"configMapKeyRef": {"name": "nowhere", "key": "x"}}
    reasons = {
        "ErrImagePull": run({"name": "main", "image": "registry/unknown@sha256:0"}),
        "CreateContainerConfigError": run(shell("true", env=[{"name": "X", "valueFrom": reference}])),
    }
    for reason, pod in reasons.items():
        assert waiting(pod.wait(lambda item: "message" in waiting(item)))["reason"] == reason
        pod.delete()
        pod.gone()


def test_a_pod_that_is_deleted_before_it_started_goes(run: Callable[..., PodOf]) -> None:
    pod = run(shell(STAYS), initContainers=[sidecar(STAYS, "never", startupProbe=exec_probe("false"))])
    pod.delete()
    pod.gone()


def test_a_pod_whose_containers_end_has_ended(run: Callable[..., PodOf]) -> None:
    pods = {
        "Succeeded": run(shell("exit 0"), initContainers=[sidecar(STAYS, "stays")], restartPolicy="Never"),
        "Failed": run(shell("exit 1"), restartPolicy="Never"),
    }
    for phase, pod in pods.items():
        ended = pod.wait(lambda item: item.get("status", {}).get("phase") in pods)
        assert ended["status"]["phase"] == phase
        pod.delete()
        pod.gone()


def test_a_node_that_is_killed_takes_its_pods_with_it(run: Callable[..., PodOf], kubelet: Kubelet, api: Api) -> None:
    make_node(api, "spot")
    pod, other = run(shell(STAYS), node="spot"), run(shell(STAYS))
    pod.ready()
    other.ready()
    (process, *_) = kubelet.processes(pod.name, "main")
    kubelet.kill_node("spot")
    assert not process.is_running()
    pod.gone()
    api.wait("v1", "Node", "spot", None, is_gone)
    assert "terminated" not in pod.log()
    assert kubelet.processes(other.name, "main")


def test_a_node_loses_the_csi_drivers_startup_taint_and_no_other(kubelet: Kubelet, api: Api) -> None:
    other = {"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}
    make_node(api, "new", {"key": CSI_TAINT, "effect": "NoExecute"}, other)
    node = api.wait("v1", "Node", "new", None, lambda item: CSI_TAINT not in str(item["spec"].get("taints")))
    assert other in node["spec"]["taints"]
    api.delete("v1", "Node", "new")


def test_nothing_is_left_of_a_kubelet_that_is_killed(api: Api, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    command = [sys.executable, "-c", LONELY, str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as lonely:
        assert lonely.stdout
        address, *pids = lonely.stdout.readline().split()
        processes = [psutil.Process(int(pid)) for pid in pids]
        lonely.kill()
    psutil.wait_procs(processes, timeout=30)
    assert not any(process.is_running() for process in processes)
    deadline = time.monotonic() + 30
    while any(address == entry.address for entries in psutil.net_if_addrs().values() for entry in entries):
        assert time.monotonic() < deadline  # the kernel takes networks down a little later
        time.sleep(0.05)
    assert not list((tmp_path / "root").iterdir())


#: Plays a container until it is killed; tells the machine's address and the processes.
LONELY = """
import sys, time
from pathlib import Path
from tests.e2e.kubelet.isolation import start
from tests.e2e.kubelet.process import ContainerProcess
from tests.e2e.kubelet.program import Program
from tests.e2e.kubelet.sandbox import Network, sandbox
folder = Path(sys.argv[1])
with Network() as network:
    pod = sandbox("lonely")
    network.connect(pod)
    program = Program(["sleep", "infinity"], {"PATH": "/usr/bin:/bin"}, "/", 65532, 65532)
    process = ContainerProcess(start(program, pod, folder / "root", [], read_only=True), folder / "log")
    print(network.host_address, pod.pid, process.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def emulator_url(kubelet: Kubelet) -> Iterator[str]:
    """An emulated AWS that pods reach."""
    server = ThreadedMotoServer(kubelet.host_address, 0, verbose=False)
    server.start()
    yield f"http://{kubelet.host_address}:{server.get_host_and_port()[1]}"
    server.stop()


@pytest.mark.parametrize("engine_name", ["sdwebui", "comfyui"])
def test_the_charts_pod_draws_a_picture(api: Api, kubelet: Kubelet, emulator_url: str, engine_name: str) -> None:
    names = Names(engine_name, "123456789012", "eu-west-1")
    runtime = {"engine": engine_name, "checkpoint": CHECKPOINT if engine_name == "sdwebui" else None}
    cluster = {"name": names.cluster, "account": names.account, "region": names.region, "eksName": "kubelet"}
    values = {
        "name": "trial",
        "cluster": {**cluster, "emulator": {"endpoint": emulator_url}},
        "images": IMAGES,
        "runtime": runtime,
    }
    objects = render(APPS / "sd-runtime", values, name="trial", namespace=NAMESPACE)
    for item in objects:
        if item["kind"] in {"ServiceAccount", "ConfigMap"}:
            api.apply({**item, "metadata": {**item["metadata"], "namespace": NAMESPACE}})
    aws = Aws(emulator_url, names)
    pod = PodOf(api, kubelet, {**one(objects, "Deployment")["spec"]["template"]["spec"], "nodeName": NODE})
    pod.ready()
    aws.send(f"{emulator_url}/{names.account}/{names.runtime_queue('trial')}", engine_name)
    eventually(pod, aws.pictures)
    pod.delete()
    pod.gone()
    assert '"event": "stopped"' in pod.log("engine")


class Aws:
    """What a runtime's agent needs of AWS."""

    def __init__(self, url: str, names: Names) -> None:
        session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=names.region)
        self.sqs = session.client("sqs", endpoint_url=url)
        self.s3 = session.client("s3", endpoint_url=url)
        for queue in (names.runtime_queue("trial"), names.dead_letter_queue("trial")):
            self.sqs.create_queue(QueueName=queue)
        session.client("sns", endpoint_url=url).create_topic(Name=names.result_topic)
        self.outputs = names.bucket(Bucket.OUTPUTS)
        for bucket in (self.outputs, names.bucket(Bucket.JOBS)):
            self.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})

    def send(self, queue: str, engine_name: str) -> None:
        """A prompt, as clients of the AWS guidance publish it."""
        content: Object = {"prompt": "a teal lake", "steps": 1, "width": 64, "height": 64}
        if engine_name == "comfyui":
            content = text_to_image("a teal lake", width=64, height=64, steps=1)
        task = "pipeline" if engine_name == "comfyui" else "text-to-image"
        metadata = {"id": "one", "runtime": "trial", "tasktype": task, "prefix": "team", "context": {}}
        self.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"metadata": metadata, "content": content}))

    def pictures(self) -> list[Any]:
        """What the agent has saved."""
        return list(self.s3.list_objects_v2(Bucket=self.outputs).get("Contents", ()))
