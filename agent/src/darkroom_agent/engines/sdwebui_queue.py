"""The web UI's queue: requests that run a job are posted to it, followed by their names, and stopped one by one.

The web UI runs such requests one after the other, in the order of their arrival. A request that waits cannot be taken
back, and there is one interrupt, for whatever runs: so a request is stopped when its turn has come, and whoever
interrupts finds out whom it hit. (modules/api/api.py, modules/progress.py and modules/shared_state.py of the web UI.)
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging import getLogger
from uuid import uuid4

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from darkroom_agent.engines.base import HANGS, Line, Presence, Run, presence, runtime_client
from darkroom_agent.engines.sdwebui_post import Answer, Post
from darkroom_agent.errors import AgentError, CancelledError, EngineUnavailableError, TimedOutError

log = getLogger(__name__)

#: How long until a run is looked at first, and between two looks.
_FIRST_LOOK_SECONDS = 0.5
_LOOK_SECONDS = 1.0
#: How often a run that is to be stopped is looked at while its turn has not come.
_STOP_LOOK_SECONDS = 0.1
#: How long a run may go on that is to be stopped. After that the web UI hangs, if it could be told to stop it.
_STOP_SECONDS = 15.0
#: How long a question may take; a web UI that loads a model may be slow to answer.
_QUESTION_SECONDS = 5.0


class _Place(BaseModel):
    """Where a request is, as /internal/progress says it. One that failed is called active until the next begins."""

    active: bool
    queued: bool
    completed: bool = False
    #: The share that is done, 0 to 1.
    progress: float | None = None


class _State(BaseModel):
    """What /sdapi/v1/progress says of whatever runs."""

    progress: float
    state: dict[str, JsonValue]

    @property
    def is_interrupted(self) -> bool:
        """Whether there was an interrupt since a request last began."""
        return self.state.get("interrupted") is not False


class WebUIQueue:
    """The queue of one web UI; all paths start at its root. Called by several threads at once."""

    def __init__(self, url: str) -> None:
        self._http = runtime_client(url, read_seconds=60)
        # The connections of questions are kept: there are many.
        self._questions = httpx.Client(base_url=url, timeout=_QUESTION_SECONDS, trust_env=False)
        self._line = Line(lambda: self._is_blocked)
        self._posts: list[Post] = []
        #: Those that were given up without an answer. They may still run, or wait to.
        self._left: list[Post] = []
        #: None while it is not known.
        self._tells_apart: bool | None = None
        #: Held by who interrupts, until it is known who was hit.
        self._interrupting = threading.Lock()

    @property
    def tells_apart(self) -> bool:
        """Whether the web UI is known to tell its requests apart. One that was started with --nowebui does not."""
        return bool(self._tells_apart)

    @property
    def is_hung(self) -> bool:
        """Whether it has a request that could not be stopped, though it should be over."""
        return any(post.is_stuck for post in self._left)

    @property
    def _is_blocked(self) -> bool:
        """Whether it has a request that was given up."""
        return any(not post.is_over for post in self._left)

    def presence(self) -> Presence:
        """How the web UI answers; what could not be stopped is tried once more."""
        found = presence(self._http, "sdapi/v1/options")
        if found is Presence.AWAY:
            self._tells_apart = None
            self._left.clear()
        elif found is Presence.READY:
            self._learn()
            for post in list(self._left):
                if post.is_over or _is_through(self._interrupt(post)):
                    self._left.remove(post)
        return found

    def get(self, path: str) -> httpx.Response:
        """Ask for something that does not wait in the queue."""
        try:
            return self._questions.get(path, timeout=60)
        except httpx.TransportError as error:
            raise EngineUnavailableError("the runtime does not answer") from error

    def control(self, path: str, run: Run) -> Answer:
        """Post a request that waits in the queue, but runs no job: ``run`` does not begin. It may take a job's time.

        Raises as ``generate`` does, and ``EngineUnavailableError`` when it takes too long.
        """
        turn = Run(run.clock, run.timeout_seconds)
        with self._line.standing(turn):
            post = Post(self._http, path, b"{}", turn)
            while not post.is_over:
                run.check()
                try:
                    turn.check()
                except TimedOutError as error:
                    self._leave(post, was_active=True)
                    raise EngineUnavailableError(f"the web UI did not answer {path} in time") from error
                self._look(post)
                turn.wait(_LOOK_SECONDS)
            return post.answer()

    def generate(self, path: str, body: bytes, run: Run, name: str | None) -> Answer:
        """Post a request that runs a job, and wait for its answer.

        ``body`` is JSON, and has the ``name`` as its force_task_id. A request without a name is not interrupted.

        Raises the errors of the connection, or the one that the run was aborted with. A good answer that comes before
        the request is stopped counts all the same, unless the job was cancelled.
        """
        self._learn()
        with self._line.standing(run):
            while True:
                run.check()
                with self._posted(Post(self._http, path, body, run, name)) as post:
                    aborted = self._followed(post)
                    with self._interrupting:
                        is_cut = post.is_cut
                if aborted and (is_cut or not post.is_success or isinstance(aborted, CancelledError)):
                    raise aborted
                if not is_cut:
                    return post.answer()
                log.warning("an interrupt that was meant for another job hit this one: it is run again")
                if name is not None:
                    other = str(uuid4())
                    body, name = body.replace(name.encode(), other.encode()), other

    @contextmanager
    def _posted(self, post: Post) -> Iterator[Post]:
        self._posts.append(post)
        try:
            yield post
        finally:
            self._posts.remove(post)

    def _followed(self, post: Post) -> AgentError | None:
        """Wait until the web UI is through with a request; the error that its run was aborted with."""
        try:
            self._follow(post)
        except AgentError as error:
            self._stop(post)
            return error
        return None

    def _follow(self, post: Post) -> None:
        run = post.run
        seconds = _FIRST_LOOK_SECONDS
        while True:
            run.check()
            if post.is_over:
                return
            run.wait(seconds)
            if not post.is_over:
                self._look(post)
            seconds = _LOOK_SECONDS

    def _look(self, post: Post) -> None:
        """See how far a request is; raises ``EngineUnavailableError`` when its turn will not come."""
        place = self._place(post)
        if place is not None and place.active:
            self._show_progress(place, post.run)
        elif self.is_hung:
            raise EngineUnavailableError(HANGS)

    def _stop(self, post: Post) -> None:
        """Interrupt a request as soon as its turn has come, and wait until the web UI is through with it."""
        clock = post.run.clock
        until: float | None = None
        place: _Place | None = None
        while not post.is_over:
            place = self._interrupt(post)
            if _is_waiting(place) and not self._line.is_first(post.run):  # else it waits for somebody else's request
                until = None
                if self._is_blocked:
                    break
            else:
                until = until or clock.now() + _STOP_SECONDS
                if clock.now() >= until:
                    break
            post.run.wait(_STOP_LOOK_SECONDS if _is_waiting(place) else _LOOK_SECONDS)
        if not post.is_over and not _is_through(place):
            self._leave(post, was_active=not _is_waiting(place))

    def _leave(self, post: Post, *, was_active: bool) -> None:
        log.warning("a request could not be stopped", extra={"task_id": post.name})
        post.give_up(was_active=was_active)
        self._left.append(post)

    def _interrupt(self, post: Post) -> _Place | None:
        """Interrupt a request if its turn has come, and none but this one; where it is then."""
        with self._interrupting:
            others = [other for other in self._posts if other is not post and not self._is_finished(other)]
            # A second interrupt could only hit the request behind it. Asked first: if that one has begun, it says no.
            state = self._state() if post.is_cut else None
            is_told = state is not None and state.is_interrupted
            place = self._place(post)
            if post.name is None or place is None or not place.active or is_told:
                return place
            post.is_cut = True
            with suppress(httpx.HTTPError):
                self._questions.post("sdapi/v1/interrupt")
            place = self._place(post)
            if place is None or not place.active:
                # It may have come to its end before the interrupt came.
                for other in others:
                    other.is_cut = other.is_cut or self._was_hit(other)
            return place

    def _is_finished(self, post: Post) -> bool:
        place = self._place(post)
        return post.is_over or (place is not None and place.completed)

    def _was_hit(self, post: Post) -> bool:
        """Whether the interrupt that was just sent may have hit a request: one that began before it was sent."""
        clock = post.run.clock
        until = clock.now() + _STOP_SECONDS
        while True:
            place = self._place(post)
            state = self._state()
            if state is not None and not state.is_interrupted:
                return False
            # Of one that waits that is seen when it begins: it takes the interrupt back, unless it had begun before.
            if post.is_over or post.name is None or not _is_waiting(place) or clock.now() >= until:
                return True
            clock.sleep(_STOP_LOOK_SECONDS)

    def _show_progress(self, place: _Place, run: Run) -> None:
        if place.progress is not None:
            run.advance(place.progress)
        elif state := self._state():
            run.advance(state.progress)

    def _place(self, post: Post) -> _Place | None:
        """Where a request is; None when the web UI does not say. One that runs is begun."""
        run = post.run
        if post.name is not None and self.tells_apart:
            place = self._ask(post.name)
            if place is not None and place.active:
                run.begin()
            elif place is not None and place.queued:
                self._line.seen(run)
            return place
        if run.begun_at is None and self._line.is_first(run) and self._state() is not None:
            self._line.seen(run)
        return _Place(active=run.begun_at is not None, queued=run.begun_at is None)

    def _learn(self) -> None:
        if self._tells_apart is None:
            self._ask("")

    def _ask(self, name: str) -> _Place | None:
        with suppress(httpx.HTTPError, ValidationError):
            answer = self._questions.post("internal/progress", json={"id_task": name, "live_preview": False})
            if answer.status_code in (404, 405):
                self._tells_apart = False
                return None
            place = _Place.model_validate_json(answer.content)
            self._tells_apart = True
            return place
        return None

    def _state(self) -> _State | None:
        with suppress(httpx.HTTPError, ValidationError):
            answer = self._questions.get("sdapi/v1/progress", params={"skip_current_image": "true"})
            return _State.model_validate_json(answer.content)
        return None


def _is_waiting(place: _Place | None) -> bool:
    return place is not None and place.queued and not place.active


def _is_through(place: _Place | None) -> bool:
    return place is not None and not place.queued and not place.active
