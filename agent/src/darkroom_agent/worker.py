"""The loop: wait for the runtime, receive a message, have it handled, and always say what becomes of it."""

from logging import getLogger

from darkroom_agent.aws import AWS_ERRORS
from darkroom_agent.endings import DeadLetter, Delete, Ending, Release
from darkroom_agent.engines.watch import EngineWatch
from darkroom_agent.errors import AwsUnavailableError
from darkroom_agent.lifecycle import Lifecycle
from darkroom_agent.logs import log_context
from darkroom_agent.policy import Policy
from darkroom_agent.transport import QueueMessage, RuntimeQueue

log = getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


class Worker:
    """Takes one message at a time."""

    def __init__(self, queue: RuntimeQueue, watch: EngineWatch, policy: Policy, lifecycle: Lifecycle) -> None:
        self._queue = queue
        self._watch = watch
        self._policy = policy
        self._lifecycle = lifecycle

    def run(self) -> None:
        """Work until the agent is to stop. No message is received while the runtime is not ready."""
        pause = _FIRST_PAUSE_SECONDS
        while not self._lifecycle.is_stopping:
            self._lifecycle.beat()
            if self._watch.look() and self._receive():
                pause = _FIRST_PAUSE_SECONDS
            else:
                self._lifecycle.pause(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _receive(self) -> bool:
        """Receive once and process what came; whether the queue could be asked."""
        try:
            message = self._queue.receive()
        except AWS_ERRORS as error:
            log.warning("receive failed", extra={"reason": str(error)})
            return False
        if message is None:
            return True
        with log_context(message_id=message.id):
            if self._lifecycle.is_stopping:
                self._end(message, Release(0))
            else:
                self._process(message)
        return True

    def _process(self, message: QueueMessage) -> None:
        ending = self._policy.unfinished(message)
        try:
            with self._queue.keeping(message):
                ending = self._policy.handle(message)
        except (*AWS_ERRORS, AwsUnavailableError) as error:
            log.warning("AWS call failed", extra={"reason": str(error)})
        except Exception:
            log.exception("unexpected error")
        finally:
            self._end(message, ending)

    def _end(self, message: QueueMessage, ending: Ending) -> None:
        """Tell SQS. Should that fail, the message comes again when its visibility timeout is over."""
        try:
            match ending:
                case Delete():
                    self._queue.delete(message)
                case Release(seconds):
                    self._queue.release(message, seconds)
                case DeadLetter(error):
                    self._queue.dead_letter(message, error)
        except AWS_ERRORS as error:
            log.warning("message not acknowledged", extra={"reason": str(error), "ending": type(ending).__name__})
