"""Stands between the requests and the embedder: no inference, however slow or stuck, keeps a caller longer
than it can wait, and no namespace keeps the others from their turn.

Inferences run on a few threads of the guard's own. A caller waits for its time and leaves; a job whose
caller has left is skipped before it costs anything. A thread that is stuck in an inference is given up and
another one, with an embedder made anew, takes its place, so that the service heals without a restart.

Who would not have an answer in time is sent away at once, and no inference is begun for a caller who will
have left before it ends: else, with more asked than can be done, each would be begun just too late.

Places to wait are few, so that callers do not hold all threads of the server while others only need the
exact tier. They are shared by namespace: when all are taken, whoever holds most gives one up, and turns go
round the namespaces. A long text takes as long as twenty short ones: the last inference that is free is not for
one while a short one waits. Locks: ``_state`` guards everything; nothing is called while it is held.
"""

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import EmbedderChanged, TaskFailed
from cachesvc.core.ports import Clock, Embedder, Observer
from cachesvc.core.types import Unseen, Vector

_REMEMBERED = 16  # inferences that count for what one takes
_LET_IN = 0.5  # calls for each inference that are begun though it is crowded, for what the exact tier has
_MOST_LET_IN = 8.0
_LET_IN_NAMED = 4.0  # the same for namespaces that ask little: names cost nothing to make up
_MOST_LET_IN_NAMED = 64.0
_SLOW_S = 0.1  # when none ended for so long, they are slow or stuck rather than many


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """``threads`` inferences at once, ``max_waiting`` callers behind them, ``hang_s`` until one is given up,
    ``max_stuck`` threads given up and still stuck before nothing is tried any more. A text of ``long_length``
    characters is a long one.
    """

    threads: int
    max_waiting: int
    hang_s: float
    max_stuck: int
    long_length: int


class _Job:
    __slots__ = ("done", "embedding", "error", "is_behind", "is_long", "share", "text", "until_s", "wait_s")

    def __init__(
        self, text: str, wait_s: float, until_s: float, share: str, *, is_long: bool, is_behind: bool
    ) -> None:
        self.text = text
        self.is_long = is_long
        self.is_behind = is_behind  # no request waits for it
        self.wait_s = wait_s
        self.until_s = until_s
        self.share = share
        self.embedding: Vector | Unseen | None = None
        self.error: CacheError | None = None
        self.done = threading.Lock()  # held until there is an answer
        self.done.acquire()


class _Worker:
    """A thread and the embedder it uses. ``since_s`` is when its inference began, ``is_long`` whether of a long text,
    ``is_behind`` whether for no request.
    """

    def __init__(self, embedder: Embedder, run: Callable[["_Worker"], None]) -> None:
        self.embedder = embedder
        self.since_s: float | None = None
        self.is_long = self.is_behind = False
        self.given_up = False
        self.thread = threading.Thread(target=run, args=(self,), name="cachesvc-embed", daemon=True)


class Guard:
    """Embeds for the engine. Thread-safe."""

    def __init__(
        self,
        embedder: Embedder,
        remake: Callable[[], Embedder],
        options: GuardOptions,
        *,
        clock: Clock,
        observer: Observer,
    ) -> None:
        """``remake`` loads the same embedder again, for a thread that takes a stuck one's place."""
        self.fingerprint = embedder.fingerprint
        self.dimension = embedder.dimension
        self._remake = remake
        self._options = options
        self._clock = clock
        self._observer = observer
        self._state = threading.Condition()
        self._queues: OrderedDict[str, deque[_Job]] = OrderedDict()  # by namespace; the first has its turn
        self._waiting = 0
        self._workers: list[_Worker] = []
        self._stuck = 0
        self._took_s = 0.0  # what an inference takes, on average of late
        self._ended_s = 0.0  # when the last inference ended
        self._let_in = 0.0  # calls that may be begun though there are too many
        self._let_in_named = _MOST_LET_IN_NAMED
        self._remaking = False
        self._remade_s = -math.inf  # when making the embedder anew was begun last
        self._failed = False  # the last inference that ended raised
        self._stopping = False
        for _ in range(options.threads):
            self._add(embedder)

    def embed(self, text: str, wait_s: float, share: str = "") -> Vector | Unseen:
        """The embedding of a text within ``wait_s``; ``share`` is the namespace whose turn it takes.

        Raises OVERLOADED when there was no place or no time, UNAVAILABLE when the embedder fails or all
        its threads are stuck.
        """
        return self._embed(text, wait_s, share, is_behind=False)

    def embed_behind(self, text: str, wait_s: float) -> Vector | Unseen:
        """As ``embed``, for no request: raises OVERLOADED at once unless an inference is free and nobody wants it."""
        return self._embed(text, wait_s, "", is_behind=True)

    def _embed(self, text: str, wait_s: float, share: str, *, is_behind: bool) -> Vector | Unseen:
        if self._are_all_stuck():
            self._look_for_stuck()  # what failed to take their place may be tried again
        is_long = len(text) >= self._options.long_length
        until_s = self._clock.monotonic_s() + wait_s
        job = _Job(text, wait_s, until_s, share, is_long=is_long, is_behind=is_behind)
        pushed_out = self._queue(job)
        if pushed_out is not None:
            _settle(pushed_out, error=_crowded())
        if not job.done.acquire(timeout=max(wait_s, 0.0)):
            self._leave(job)
            self._look_for_stuck()
            raise CacheError(Kind.OVERLOADED, "the embedding engine had no answer in time")
        if job.error is not None:
            raise job.error
        assert job.embedding is not None
        return job.embedding

    @property
    def healthy(self) -> bool:
        """Whether embedding works, as far as is known."""
        with self._state:
            return not (self._failed or self._are_all_stuck())

    @property
    def stuck_count(self) -> int:
        """Threads given up that have not come back."""
        return self._stuck

    def is_crowded(self, wait_s: float) -> bool:
        """Whether so many want inferences that one asked for now may not be there within ``wait_s``. A glance."""
        if not self._waiting or (self._waiting / self._options.threads + 1) * self._took_s <= wait_s:
            return False
        return self._clock.monotonic_s() - self._ended_s < _SLOW_S  # one that hangs takes no time from others

    def lets_in(self, wait_s: float, share: str | None) -> bool:
        """Whether a call had better be begun though it is crowded: that of a namespace which asks little, and
        one for every other inference made, for what the exact tier has. ``share`` is None where it is not known.
        """
        with self._state:
            if share is not None and self._needs_s(share) <= wait_s and self._let_in_named >= 1:
                self._let_in_named -= 1
                return True
            if self._let_in < 1:
                return False
            self._let_in -= 1
            return True

    def stop(self) -> None:
        """Begin no further inference. Threads that are stuck end with the process."""
        with self._state:
            self._stopping = True
            self._state.notify_all()

    def _queue(self, job: _Job) -> _Job | None:
        """Give a job a place. The job that had to give up its own for it."""
        with self._state:
            if self._stopping or self._are_all_stuck():
                raise CacheError(Kind.UNAVAILABLE, "the embedding engine is stuck")
            if self._waiting and (job.is_behind or self._needs_s(job.share) > job.wait_s):
                raise _crowded()
            if job.is_behind and all(worker.since_s is not None for worker in self._workers):
                raise _crowded()
            pushed_out = self._push_out(job.share) if self._waiting >= self._most_waiting() else None
            if job.share not in self._queues:
                self._queues[job.share] = deque()
            self._queues[job.share].append(job)
            self._waiting += 1
            self._state.notify()
            return pushed_out

    def _needs_s(self, share: str) -> float:
        """How long a job of a namespace will take from now until its inference ends, by those before it."""
        place = len(self._queues.get(share, ()))
        before = sum(min(len(queue), place + 1) for queue in self._queues.values())
        return (before / self._options.threads + 1) * self._took_s

    def _most_waiting(self) -> int:
        busy = sum(worker.since_s is not None for worker in self._workers)
        return self._options.max_waiting + len(self._workers) - busy

    def _push_out(self, share: str) -> _Job:
        """Free a place: the last in the longest queue gives way, unless that is no longer than the asker's."""
        longest = max(self._queues.values(), key=len)
        if len(longest) <= len(self._queues.get(share, ())) + 1:
            raise _crowded()
        self._waiting -= 1
        return longest.pop()

    def _leave(self, job: _Job) -> None:
        """Its caller waits no longer: if it has not begun it never will."""
        with self._state:
            queue = self._queues.get(job.share)
            if queue is not None and job in queue:
                queue.remove(job)
                self._waiting -= 1
                if not queue:
                    del self._queues[job.share]

    def _next(self, worker: _Worker) -> _Job | None:
        """Wait for a job. None: the thread is to end."""
        with self._state:
            worker.since_s, worker.is_long, worker.is_behind = None, False, False
            while not (self._stopping or worker.given_up):
                job = self._take()
                if job is not None:
                    worker.since_s = self._clock.monotonic_s()
                    worker.is_long, worker.is_behind = job.is_long, job.is_behind
                    return job
                self._state.wait()
            return None

    def _take(self) -> _Job | None:
        """The next job that can still be done in time, one namespace after the other."""
        now_s = self._clock.monotonic_s()
        while (job := self._first()) is not None:
            queue = self._queues[job.share]
            queue.remove(job)
            self._waiting -= 1
            if not queue:
                del self._queues[job.share]
            # Nobody else wants it, and the estimate leaves no time at all: trying is how it mends.
            tried = job.wait_s < self._took_s and not self._waiting
            if job.until_s < now_s + self._took_s and not tried:
                _settle(job, error=_crowded())  # its caller would have left: an inference for nobody
                continue
            if queue:
                self._queues.move_to_end(job.share)
            return job
        return None

    def _first(self) -> _Job | None:
        """Whose turn it is: with all other threads in long texts, a short one's, if there is any."""
        others = len(self._workers) - 1
        if others and sum(worker.is_long for worker in self._workers) >= others:
            short = (job for queue in self._queues.values() for job in queue if not job.is_long)
            found = next(short, None)
            if found is not None:
                return found
        return next((queue[0] for queue in self._queues.values()), None)

    def _run(self, worker: _Worker) -> None:
        while (job := self._next(worker)) is not None:
            try:
                embedding = worker.embedder.embed(job.text, job.wait_s)
            except CacheError as error:
                self._settled(worker, failed=error.kind is not Kind.OVERLOADED)
                _settle(job, error=error)
            except BaseException as error:  # noqa: BLE001 - the edge of the worker: told by type only
                self._settled(worker, failed=True)
                self._observer.on(TaskFailed("embed", Kind.INTERNAL, type(error).__name__))
                _settle(job, error=CacheError(Kind.UNAVAILABLE, f"inference failed: {type(error).__name__}"))
            else:
                self._settled(worker, failed=False)
                _settle(job, embedding=embedding)
            self._look_for_stuck()  # callers who are sent away at once do not

    def _settled(self, worker: _Worker, *, failed: bool) -> None:
        with self._state:
            self._ended_s = self._clock.monotonic_s()
            if worker.since_s is not None and not (worker.given_up or worker.is_behind):
                took_s = self._ended_s - worker.since_s
                self._took_s += (took_s - self._took_s) / (_REMEMBERED if self._took_s else 1)
            self._let_in = min(self._let_in + _LET_IN, _MOST_LET_IN)
            self._let_in_named = min(self._let_in_named + _LET_IN_NAMED, _MOST_LET_IN_NAMED)
            worker.since_s = None
            changed = failed is not self._failed
            self._failed = failed
            came_back = worker.given_up
            if came_back:
                self._stuck -= 1
                if self._are_missing():  # nothing took its place
                    worker.given_up = False
                    self._workers.append(worker)
        if changed or came_back:
            self._observer.on(EmbedderChanged(healthy=not failed, stuck=self._stuck))

    def _look_for_stuck(self) -> None:
        """Give up threads that are in one inference for too long, and put new ones in their place."""
        now_s = self._clock.monotonic_s()
        with self._state:
            stuck = [
                worker
                for worker in self._workers
                if worker.since_s is not None and now_s - worker.since_s > self._options.hang_s
            ]
            for worker in stuck:
                worker.given_up = True
                self._workers.remove(worker)
                self._stuck += 1
            is_due = now_s - self._remade_s >= self._options.hang_s and not self._remaking
            remake = is_due and self._are_missing() and self._stuck <= self._options.max_stuck
            if remake:
                self._remaking, self._remade_s = True, now_s
        if stuck:
            self._observer.on(EmbedderChanged(healthy=False, stuck=self._stuck))
        if remake:
            threading.Thread(target=self._replace, name="cachesvc-remake", daemon=True).start()

    def _replace(self) -> None:
        """Loading takes a while, and may hang as well: on a thread of its own."""
        try:
            embedder = self._remake()
        except Exception as error:  # noqa: BLE001 - the edge of the thread; tried again after hang_s
            kind = error.kind if isinstance(error, CacheError) else Kind.INTERNAL
            self._observer.on(TaskFailed("remake_embedder", kind, type(error).__name__))
        else:
            while self._are_missing():
                self._add(embedder)
        finally:
            self._remaking = False

    def _add(self, embedder: Embedder) -> None:
        worker = _Worker(embedder, self._run)
        with self._state:
            if not self._are_missing():
                return  # one that was stuck came back meanwhile
            self._workers.append(worker)
        worker.thread.start()

    def _are_missing(self) -> bool:
        return len(self._workers) < self._options.threads

    def _are_all_stuck(self) -> bool:
        return not self._workers


def _settle(job: _Job, embedding: Vector | Unseen | None = None, error: CacheError | None = None) -> None:
    job.embedding, job.error = embedding, error
    job.done.release()


def _crowded() -> CacheError:
    return CacheError(Kind.OVERLOADED, "enough calls wait for the embedding engine already")
