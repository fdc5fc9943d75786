"""The one thread that writes to LMDB, and its group commit.

LMDB's write transactions belong to the thread that began them (a put from another thread seems to
work, and the next begin hangs), and a commit costs an fsync. So all writes are queued to one
thread, which takes whatever has gathered while the last commit ran, without lingering, and commits
it as one transaction. Callers block until their write is durable.

Each caller waits on a lock of its own, which costs a tenth of a ``Future``; one condition guards the queue,
and is told only when the thread has nothing to do.
"""

import errno
import os
import resource
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Generic, TypeVar

import lmdb

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.ports import Failpoint, no_failpoint

T = TypeVar("T")
W = TypeVar("W")

# Bounds how long one commit, and so the wait of those behind it, can take.
_GROUP_SIZE = 64
_ROOM_BYTES = 64 << 20  # with less than this left, a write that was cut short means a full disk

_FAILED = "the disk failed while writing: the store takes no more writes until the server is restarted"
# What the system says when there is no room: a full disk, a file size limit, a quota.
_NO_ROOM = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT))


class _Job:
    __slots__ = ("done", "error", "has_left", "result", "work")

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.has_left = False  # its caller stopped waiting
        self.done = threading.Lock()  # held until there is a result or an error
        self.done.acquire()


class GroupWriter(Generic[W]):
    """Runs write jobs in grouped transactions on a thread of its own.

    ``opening`` gives what the jobs of a group work with, made once for their transaction, read from it, and
    written back when it is left. A job must be safe to run again, since when one job of a group fails the
    transaction is aborted and each job is run in a transaction of its own.
    """

    def __init__(
        self,
        env: lmdb.Environment,
        opening: Callable[[lmdb.Transaction], AbstractContextManager[W]],
        queue_length: int,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        self._env = env
        self._opening = opening
        self._failpoint = failpoint
        self._queue_length = queue_length
        self._state = threading.Condition()  # guards the next three
        self._jobs: deque[_Job] = deque()
        self._idle = False
        self._closing = False
        self._failed = False  # the disk failed: what it says of later writes cannot be trusted
        self._thread = threading.Thread(target=self._run, name="cachesvc-writer", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[W], T], wait_s: float | None = None) -> T:
        """Run a job and wait until it is committed. Raises what ``ResponseStore.put`` does."""
        job = _Job(work)
        self._queue(job)
        if not job.done.acquire(
            timeout=-1 if wait_s is None else min(max(wait_s, 0.0), threading.TIMEOUT_MAX)
        ):
            job.has_left = True
            raise CacheError(Kind.DEADLINE, "the write was not durable in time; it may still happen")
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def _queue(self, job: _Job) -> None:
        with self._state:
            if self._failed:
                raise CacheError(Kind.UNAVAILABLE, _FAILED)
            if self._closing:
                raise CacheError(Kind.UNAVAILABLE, "the store is closing")
            if len(self._jobs) >= self._queue_length:
                raise CacheError(Kind.OVERLOADED, "the write queue is full; try again later")
            self._jobs.append(job)
            if self._idle:
                self._state.notify()

    @property
    def alive(self) -> bool:
        """Whether writes can still happen."""
        return self._thread.is_alive() and not self._closing and not self._failed

    def close(self) -> None:
        """Commit what is queued, refuse the rest, end the thread."""
        with self._state:
            self._closing = True
            self._state.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            self._commit(group)

    def _next_group(self) -> list[_Job]:
        """What has gathered, some at least; none at all when it is closed and nothing is left."""
        with self._state:
            while True:
                group: list[_Job] = []
                while self._jobs and len(group) < _GROUP_SIZE:
                    job = self._jobs.popleft()
                    if not job.has_left:  # else its caller stopped waiting before it began
                        group.append(job)
                if group or self._closing:
                    return group
                self._idle = True
                self._state.wait()
                self._idle = False

    def _commit(self, group: list[_Job]) -> None:
        if self._failed:
            _refuse(group)
            return
        try:
            with self._env.begin(write=True) as txn:
                with self._opening(txn) as write:
                    results = [job.work(write) for job in group]
                self._failpoint("store.before_commit")
        except Exception as error:  # noqa: BLE001 - the edge of the worker: the error is handed to the caller
            if _is_broken(error, Path(self._env.path())):
                self._failed = True
                _refuse(group)
            elif len(group) == 1:
                _settle(group[0], error=_translate(error))
            else:
                for job in group:
                    self._commit([job])
            return
        self._failpoint("store.after_commit")
        for job, result in zip(group, results, strict=True):
            _settle(job, result=result)
        self._failpoint("store.after_acknowledging")


def _refuse(group: list[_Job]) -> None:
    for job in group:
        _settle(job, error=CacheError(Kind.UNAVAILABLE, _FAILED))


def _settle(job: _Job, result: Any = None, error: BaseException | None = None) -> None:
    job.result, job.error = result, error
    job.done.release()


def _is_broken(error: Exception, path: Path) -> bool:
    """Whether the disk failed, and not only has no room. After a failed sync the kernel may drop what it
    could not write and report success later, so nothing that is written from now on can be trusted
    ("fsyncgate", PostgreSQL 2018): a restart reads what is really there.

    LMDB says "Input/output error" for a write that was cut short, too, which a full disk does.
    """
    if not isinstance(error, lmdb.Error) or isinstance(error, lmdb.MapFullError):
        return False
    return not any(reason in str(error) for reason in _NO_ROOM) and _has_room(path)


def _has_room(path: Path) -> bool:
    """Whether the file could grow by what a commit may take: the disk's free space, and the file size limit."""
    disk = os.statvfs(path)
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    left = limit - (path / "data.mdb").stat().st_size if limit != resource.RLIM_INFINITY else _ROOM_BYTES
    return min(disk.f_bavail * disk.f_frsize, left) >= _ROOM_BYTES


def _translate(error: Exception) -> Exception:
    if isinstance(error, CacheError):
        return error
    if isinstance(error, lmdb.MapFullError):
        return CacheError(Kind.FULL, "the store is full (store.map_size_bytes is used up)")
    if isinstance(error, lmdb.Error):
        # A full disk is lmdb.DiskError, a file size limit a plain lmdb.Error; both leave reads working.
        return CacheError(Kind.FULL, "the store could not be written: the disk is full")
    return CacheError(Kind.INTERNAL, f"a store write failed: {type(error).__name__}")
