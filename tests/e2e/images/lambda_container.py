"""AWS Lambda on loopback with containers as its execution environments."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from darkroom.local.lambda_service import LambdaService
from darkroom.local.processes import Child
from tests.e2e.images.engine import AS_IN_A_POD


class ContainerLambda(LambdaService):
    """A function whose environments are containers of ``image``, started by its own entry point and command."""

    image: str

    def _spawn(self, name: str, variables: Mapping[str, str]) -> Child:
        return _Environment(name, self.image, variables, self._logs / "lambda.log")


class _Environment(Child):
    """A container in place of a child process."""

    def __init__(self, name: str, image: str, variables: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log_path = log
        options = [f"--env={key}" for key in variables]
        with log.open("a") as output:
            self._process = subprocess.Popen(
                ["docker", "run", "--rm", f"--name={name}", *AS_IN_A_POD, *options, image],
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def kill(self) -> None:
        """End it as Lambda does."""
        self.terminate()
        self._process.wait()

    def terminate(self) -> None:
        # It may have ended by itself.
        subprocess.run(["docker", "kill", self.name], capture_output=True, check=False)

    def stop(self) -> None:
        self.kill()
