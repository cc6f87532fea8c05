"""The tests' image of ComfyUI: its command line, and the demo runtime behind it.

As with the real one, only ``--listen`` lets others in.
"""

import argparse
import sys
from pathlib import Path

from tests.e2e.kubelet.images.demo import run, write_into


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="comfyui", allow_abbrev=False)
    parser.add_argument("--port", type=int, default=8188)
    parser.add_argument("--listen", nargs="?", const="0.0.0.0", default="127.0.0.1")
    for purpose in ("output", "temp", "input", "user"):
        parser.add_argument(f"--{purpose}-directory", type=Path)
    parser.add_argument("--extra-model-paths-config", type=Path)
    options, others = parser.parse_known_args()
    write_into(options.output_directory, options.temp_directory, options.input_directory, options.user_directory)
    if options.extra_model_paths_config and not options.extra_model_paths_config.is_file():
        sys.exit(f"there is no file {options.extra_model_paths_config}")
    host = options.listen.split(",")[0]
    run("comfyui", host, options.port, {"others": others})


if __name__ == "__main__":
    main()
