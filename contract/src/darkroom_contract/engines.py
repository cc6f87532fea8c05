"""What a runtime's description may not give its engine, since Darkroom sets it or relies on it. Pure."""

import re
from collections.abc import Iterable
from types import MappingProxyType

from darkroom_contract.types import Engine

#: Options that the chart of a runtime sets, and such as would take from it what it relies on: the address, the folders,
#: and that no one is asked for a password within the pod.
OWN_OPTIONS = MappingProxyType(
    {
        Engine.SDWEBUI: (
            *("--api", "--api-auth", "--api-server-stop", "--listen", "--nowebui", "--port", "--server-name"),
            *("--gradio-auth", "--gradio-auth-path", "--ngrok", "--share", "--subpath", "--tls-certfile"),
            *("--tls-keyfile", "--ckpt", "--ckpt-dir", "--data-dir", "--embeddings-dir", "--esrgan-models-path"),
            *("--lora-dir", "--models-dir", "--no-download-sd-model", "--no-hashing", "--skip-prepare-environment"),
            *("--skip-version-check", "--ui-settings-file", "--vae-dir"),
        ),
        Engine.COMFYUI: (
            *("--base-directory", "--database-url", "--disable-mmap", "--extra-model-paths-config"),
            *("--input-directory", "--listen", "--multi-user", "--output-directory", "--port", "--quick-test-for-ci"),
            *("--temp-directory", "--tls-certfile", "--tls-keyfile", "--user-directory"),
        ),
    }
)

#: Environment variables that the chart sets, or the cluster.
OWN_VARIABLES = ("COMMANDLINE_ARGS", "HF_HUB_OFFLINE", "HOME", "HOSTNAME", "PATH", "TMPDIR")
OWN_PREFIXES = ("AWS_", "KUBERNETES_", "NVIDIA_")

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def own_options(engine: Engine, arguments: Iterable[str]) -> list[str]:
    """The options among an engine's arguments that are Darkroom's, in their order.

    Both engines read their arguments by argparse, which takes the beginning of an option for the option.
    """
    given = (argument.partition("=")[0] for argument in arguments)
    return [name for name in given if len(name) > 2 and any(own.startswith(name) for own in OWN_OPTIONS[engine])]


def is_own_variable(name: str) -> bool:
    """Whether an environment variable is Darkroom's, or the cluster's."""
    return name in OWN_VARIABLES or name.startswith(OWN_PREFIXES)


def is_variable(name: str) -> bool:
    """Whether it is a name that every program can read: letters, digits and underscores, no digit first."""
    return _VARIABLE.fullmatch(name) is not None
