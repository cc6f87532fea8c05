"""The tests' image of the AUTOMATIC1111 web UI: its command line, and the demo runtime behind it.

As with the real one, only ``--listen`` or ``--server-name`` let others in, and only ``--api`` or ``--nowebui`` make an
API. Unlike the real one it ends where the checkpoint is not there, instead of loading another.
"""

import argparse
import sys
from pathlib import Path

from tests.e2e.kubelet.images.demo import run, write_into


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="webui", allow_abbrev=False)
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--listen", action="store_true")
    parser.add_argument("--server-name")
    parser.add_argument("--api", action="store_true")
    parser.add_argument("--nowebui", action="store_true")
    parser.add_argument("--ckpt", type=Path)
    parser.add_argument("--data-dir", type=Path)
    options, others = parser.parse_known_args()
    if not options.api and not options.nowebui:
        sys.exit("the web UI has no API without --api or --nowebui")
    if options.ckpt and not options.ckpt.is_file():
        sys.exit(f"there is no checkpoint {options.ckpt}")
    write_into(options.data_dir)
    host = options.server_name or ("0.0.0.0" if options.listen else "127.0.0.1")
    arguments = {"ckpt": str(options.ckpt), "nowebui": options.nowebui, "others": others}
    run("sdwebui", host, options.port, arguments, nowebui=options.nowebui)


if __name__ == "__main__":
    main()
