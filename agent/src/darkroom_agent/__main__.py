"""``python -m darkroom_agent``: one queue agent, until SIGTERM or SIGINT. Exit status 2 when a setting is wrong."""

import errno
import logging
import signal
import sys
import threading

from botocore.exceptions import NoRegionError

from darkroom_agent.agent import Agent
from darkroom_agent.logs import configure
from darkroom_agent.settings import Settings
from darkroom_contract.environment import SettingsError

_SIGNALS = {signal.SIGTERM, signal.SIGINT}


def main() -> int:
    """Run the agent."""
    try:
        settings = Settings.load()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    configure(settings.log_level, settings.runtime_name)
    # Blocked here, and so in every thread that comes: a thread of its own waits for them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    log = logging.getLogger(__package__)
    try:
        agent = Agent(settings)
        threading.Thread(target=_stop_on_signal, args=(agent,), name="signals", daemon=True).start()
        agent.run()
    except NoRegionError:
        log.error("AWS_REGION is not set")  # noqa: TRY400 - whoever reads the log knows what to do
        return 2
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        log.error("HEALTH_PORT is taken", extra={"port": settings.health_port})  # noqa: TRY400
        return 2
    return 0


def _stop_on_signal(agent: Agent) -> None:
    number = signal.sigwait(_SIGNALS)
    logging.getLogger(__package__).info("stopping", extra={"signal": signal.Signals(number).name})
    agent.stop()


if __name__ == "__main__":
    sys.exit(main())
