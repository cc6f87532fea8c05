"""``python -m darkroom.local.child <module> <arguments>``: runs a module that ends when its parent does.

The parent holds the other end of standard input and writes nothing: the end of input is the end of the parent, however
that came about.
"""

import os
import runpy
import signal
import sys
import threading
import time

#: What a process is given to end by itself before it is killed, in seconds.
STOP_SECONDS = 15.0


def main() -> None:
    """Run the module as if it had been started itself."""
    threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    # Signals are for the module's own threads, which may wait for them in a way of their own.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
