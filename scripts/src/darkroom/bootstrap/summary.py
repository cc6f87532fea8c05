"""What to know of a cluster that runs: where its pages are, how to log in, and what to type next."""

from collections.abc import Iterator

from darkroom.bootstrap.credentials import ARGOCD, DARKROOM, GRAFANA_SECRET, MONITORING
from darkroom.bootstrap.gitops import APPLICATIONS
from darkroom.bootstrap.steps import Context
from darkroom_function.apis import GROUP
from darkroom_function.gateway import api_key_secret


def lines(context: Context) -> Iterator[str]:
    """The summary of a cluster, without any secret in it."""
    cluster, k8s = context.cluster, context.k8s
    api = k8s.get(f"promptapis.{GROUP}", cluster.name, DARKROOM) or {}
    runtimes = [it for it in k8s.all(APPLICATIONS, ARGOCD) if it["metadata"]["name"].startswith("runtime-")]
    well = [it for it in runtimes if it.get("status", {}).get("health", {}).get("status") == "Healthy"]
    tenant = cluster.tenants[0]
    yield f"Cluster {cluster.name} runs: {len(well)} of {len(runtimes)} runtimes are well."
    yield ""
    yield "kubectl   " + f"aws eks update-kubeconfig --name {cluster.eks_name} --region {cluster.region}"
    yield "Argo CD   " + _forward(ARGOCD, "argocd-server", "8080:443")
    yield "          https://localhost:8080, user admin, whose password is"
    yield "          " + _read(ARGOCD, "argocd-initial-admin-secret", "password")
    yield "Grafana   " + _forward(MONITORING, "kube-prometheus-stack-grafana", "3000:80")
    yield "          http://localhost:3000, user admin, whose password is"
    yield "          " + _read(MONITORING, GRAFANA_SECRET, "admin-password")
    yield f"API       export DARKROOM_URL={api.get('status', {}).get('apiUrl', '<not known yet>')}"
    yield f'          export DARKROOM_API_KEY="$({_read(DARKROOM, api_key_secret(tenant.name), tenant.keys[0])})"'
    yield f"          That is the key of the tenant {tenant.name}."
    yield ""
    yield f"Next: darkroom smoke --cluster {context.folder}"


def _forward(namespace: str, service: str, ports: str) -> str:
    return f"kubectl -n {namespace} port-forward service/{service} {ports}"


def _read(namespace: str, secret: str, field: str) -> str:
    """The command that shows a field of a Secret."""
    escaped = field.replace(".", "\\.")
    return f"kubectl -n {namespace} get secret {secret} -o jsonpath='{{.data.{escaped}}}' | base64 -d"
