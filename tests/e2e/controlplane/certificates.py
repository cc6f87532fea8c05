"""The certificates of one control plane, each made for its run. It writes into the control plane's folder alone."""

from dataclasses import dataclass
from pathlib import Path

import trustme
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


@dataclass(frozen=True)
class Certificate:
    """The files of a certificate and its key, in the names that Kubernetes' Secrets and Crossplane give them."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """The certificate, PEM."""
        return self.folder / "tls.crt"

    @property
    def key(self) -> Path:
        """Its private key, PEM."""
        return self.folder / "tls.key"

    @property
    def authority(self) -> Path:
        """The certificate of who signed it, PEM."""
        return self.folder / "ca.crt"


class Authority:
    """A certificate authority."""

    def __init__(self, folder: Path, ca: trustme.CA | None = None) -> None:
        self._folder = folder
        self._ca = ca or trustme.CA()

    def issue(
        self, name: str, *hosts: str, common_name: str | None = None, organization: str | None = None
    ) -> Certificate:
        """A certificate for a server at these hosts, or for a client of this name and group."""
        issued = Certificate(self._folder / name)
        issued.folder.mkdir(parents=True)
        # Go takes no certificate without any host.
        hosts = hosts or (f"{name}.invalid",)
        leaf = self._ca.issue_cert(*hosts, common_name=common_name, organization_name=organization)
        leaf.private_key_pem.write_to_path(issued.key)
        for blob in leaf.cert_chain_pems:
            blob.write_to_path(issued.certificate, append=True)
        self._ca.cert_pem.write_to_path(issued.authority)
        return issued


def kubeconfig(path: Path, server: str, client: Certificate) -> None:
    """Write the file by which a client finds and is known to the API server."""
    cluster = {"server": server, "certificate-authority": str(client.authority)}
    user = {"client-certificate": str(client.certificate), "client-key": str(client.key)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "darkroom", "cluster": cluster}],
        "users": [{"name": "admin", "user": user}],
        "contexts": [{"name": "darkroom", "context": {"cluster": "darkroom", "user": "admin"}}],
        "current-context": "darkroom",
    }
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def signing_key(path: Path) -> None:
    """Write the key that signs service accounts' tokens."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    path.write_bytes(pem)
