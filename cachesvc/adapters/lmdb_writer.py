"""The one thread that writes to LMDB, and its group commit.

LMDB's write transactions belong to the thread that began them (a put from another thread seems to
work, and the next begin hangs), and a commit costs an fsync. So all writes are queued to one
thread, which takes whatever has gathered while the last commit ran, without lingering, and commits
it as one transaction. Callers block until their write is durable.
"""

import errno
import os
import queue
import resource
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.ports import Failpoint, no_failpoint

T = TypeVar("T")

# Bounds how long one commit, and so the wait of those behind it, can take.
_GROUP_SIZE = 64
_ROOM_BYTES = 64 << 20  # with less than this left, a write that was cut short means a full disk

_FAILED = "the disk failed while writing: the store takes no more writes until the server is restarted"
# What the system says when there is no room: a full disk, a file size limit, a quota.
_NO_ROOM = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT))


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[lmdb.Transaction], Any]
    done: "Future[Any]"


class GroupWriter:
    """Runs write jobs in grouped transactions on a thread of its own.

    A job is a function of the transaction; it must be safe to run again, since when one job of a
    group fails the transaction is aborted and each job is run in a transaction of its own.
    """

    def __init__(self, env: lmdb.Environment, queue_length: int, failpoint: Failpoint = no_failpoint) -> None:
        self._env = env
        self._failpoint = failpoint
        self._jobs: queue.Queue[_Job | None] = queue.Queue(queue_length)
        self._gate = threading.Lock()  # held while a job is queued and while the gate closes
        self._closing = False
        self._failed = False  # the disk failed: what it says of later writes cannot be trusted
        self._thread = threading.Thread(target=self._run, name="cachesvc-writer", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[lmdb.Transaction], T], wait_s: float | None = None) -> T:
        """Run a job and wait until it is committed. Raises what ``ResponseStore.put`` does."""
        job = _Job(work, Future())
        with self._gate:
            if self._failed:
                raise CacheError(Kind.UNAVAILABLE, _FAILED)
            if self._closing:
                raise CacheError(Kind.UNAVAILABLE, "the store is closing")
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                raise CacheError(Kind.OVERLOADED, "the write queue is full; try again later") from None
        try:
            result: T = job.done.result(wait_s)
        except FutureTimeout:
            job.done.cancel()
            raise CacheError(
                Kind.DEADLINE, "the write was not durable in time; it may still happen"
            ) from None
        return result

    @property
    def alive(self) -> bool:
        """Whether writes can still happen."""
        return self._thread.is_alive() and not self._closing and not self._failed

    def close(self) -> None:
        """Commit what is queued, refuse the rest, end the thread."""
        with self._gate:
            self._closing = True
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            group, last = self._next_group()
            if group:
                self._commit(group)
            if last:
                return

    def _next_group(self) -> tuple[list[_Job], bool]:
        group: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            if not job.done.cancelled():  # else its caller stopped waiting before it began
                group.append(job)
            if len(group) == _GROUP_SIZE:
                return group, False
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _commit(self, group: list[_Job]) -> None:
        if self._failed:
            _refuse(group)
            return
        try:
            with self._env.begin(write=True) as txn:
                results = [job.work(txn) for job in group]
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
    try:
        if error is not None:
            job.done.set_exception(error)
        else:
            job.done.set_result(result)
    except InvalidStateError:
        pass  # the caller stopped waiting


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
