"""``python -m darkroom_agent.janitor``: answer the jobs whose runtime was removed before it drew them, once, and end.

For a CronJob. Most runs only look whether a queue has gone; all jobs are read when one has, and once a day. It talks to
S3, SQS and SNS.

Exit status 1 when AWS failed, and the next run reads all jobs again; 2 when a setting is wrong. A job whose records
cannot be read is no failure, since no run will do better: a warning names it whenever all jobs are read.
"""

import logging
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from darkroom_agent.aws import AWS_ERRORS, Clients
from darkroom_agent.logs import configure
from darkroom_agent.lost_jobs import Queues, Step, Sweep, Tally, objects
from darkroom_contract.environment import Environment, SettingsError
from darkroom_contract.names import JANITOR_KEY, REGISTRY_PREFIX, Bucket, Names, registered_runtime
from darkroom_contract.types import AccountId, ClusterName, Fact, Region, Timestamp, utcnow

log = logging.getLogger("darkroom_agent.janitor")

#: For runtimes that came and went between two runs.
_SWEEP_EVERY = timedelta(days=1)


class Settings(Environment):
    """What the janitor is started with."""

    cluster: ClusterName
    account: AccountId
    aws_region: Region
    #: How long nothing may have been written of a job that is answered. Longer than the API takes to publish a prompt,
    #: and to learn that a runtime is gone: a minute in all.
    quiet_seconds: Annotated[int, Field(ge=60)] = 300
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @cached_property
    def names(self) -> Names:
        """The AWS names of the cluster."""
        return Names(cluster=self.cluster, account=self.account, region=self.aws_region)


class Memory(Fact):
    """``janitor.json``: what one run leaves to the next, so that most runs need not read all jobs."""

    swept_at: Timestamp | None = None
    #: When the runtimes' queues were made.
    queues: dict[str, Timestamp] = {}
    #: The runtimes whose jobs are to be looked at once more.
    unsettled: tuple[str, ...] = ()


class Janitor:
    """Runs once. A second one at the same time does no harm."""

    def __init__(self, settings: Settings, clients: Clients, now: Callable[[], datetime] = utcnow) -> None:
        self._clients = clients
        self._now = now
        self._names = settings.names
        self._bucket = self._names.bucket(Bucket.JOBS)
        self._quiet = timedelta(seconds=settings.quiet_seconds)

    def run(self) -> Tally:
        """Answer what is lost; raises botocore's errors when it cannot even be told what is."""
        memory, now = self._memory(), self._now()
        queues = Queues(self._clients, self._names, self._registered())
        changed = {name for name, since in memory.queues.items() if queues.lost_before(name) not in (None, since)}
        is_due = memory.swept_at is None or memory.swept_at < now - _SWEEP_EVERY
        is_needed = is_due or bool(changed or memory.unsettled)
        tally = Sweep(self._clients, self._names, queues, now - self._quiet).run() if is_needed else Tally()
        if not tally.steps[Step.FAILED]:
            kept = Memory(
                swept_at=now if is_needed else memory.swept_at,
                queues=self._known(queues, memory),
                # What the API was about to record when a queue went may have been recorded behind the reader's back.
                unsettled=tuple(sorted(changed | tally.unsettled)),
            )
            if kept != memory:
                self._clients.s3.put_object(Bucket=self._bucket, Key=JANITOR_KEY, Body=kept.to_json().encode())
        return tally

    @staticmethod
    def _known(queues: Queues, memory: Memory) -> dict[str, datetime]:
        """When the queues were made: of those that are there, and of those that are about to be made anew."""
        names = {*queues.registered, *memory.queues}
        before = {name: since for name, since in memory.queues.items() if name in queues.registered}
        return {name: since for name in sorted(names) if (since := queues.since(name) or before.get(name))}

    def _memory(self) -> Memory:
        try:
            answer = self._clients.s3.get_object(Bucket=self._bucket, Key=JANITOR_KEY)
        except self._clients.s3.exceptions.NoSuchKey:
            return Memory()
        try:
            return Memory.model_validate_json(answer["Body"].read())
        except ValidationError:
            log.warning("what the janitor knew cannot be read: it begins anew", exc_info=True)
            return Memory()

    def _registered(self) -> frozenset[str]:
        entries = objects(self._clients.s3, self._bucket, REGISTRY_PREFIX)
        return frozenset(registered_runtime(each["Key"]) for each in entries)


def main() -> int:
    """Run the janitor once."""
    try:
        settings = Settings.load()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    configure(settings.log_level, "")
    began = utcnow()
    try:
        tally = Janitor(settings, Clients.create()).run()
    except AWS_ERRORS:
        log.exception("janitor failed")
        return 1
    seconds = round((utcnow() - began).total_seconds(), 1)
    log.info("janitor done", extra={"jobs": tally.jobs, "seconds": seconds, **tally.steps})
    return 1 if tally.steps[Step.FAILED] else 0


if __name__ == "__main__":
    sys.exit(main())
