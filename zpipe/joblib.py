"""joblib's backend "zpipe": `import zpipe.joblib` registers it, `joblib.parallel_config(backend="zpipe")` uses it.

By default it has a pipeline of `n_jobs` local workers (all cores, unless `n_jobs` says otherwise), which is kept for
the process and used again by the next call, as joblib's own pool is. `parallel_config(backend="zpipe", pipeline=pipe)`
uses one of the script's, with its workers on other hosts, instead.

joblib hands over several calls at a time: as many as zpipe's own chunks would have, by the workers' timings. Inside a
worker, nested calls run in threads, or one after another, and never start more processes.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any

import joblib  # type: ignore[import-untyped]
from joblib.parallel import (  # type: ignore[import-untyped]
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    register_parallel_backend,
)

from zpipe.api.exits import INTERRUPTED
from zpipe.api.pipeline import Pipeline
from zpipe.context import current
from zpipe.core.chunking import Chunker
from zpipe.serialize import dump_function

__all__ = ["ZpipeBackend", "shutdown"]

_Done = Callable[["Future[Any]"], object]


class ZpipeBackend(ParallelBackendBase):  # type: ignore[misc]
    """Runs joblib's calls on a pipeline. `pipeline`: the one to use; None: one that is kept for the process.

    initializer, initargs: called once in each worker of a kept one, ahead of everything. Raises ValueError if there is
    a `pipeline`, which has its own.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self,
        pipeline: Pipeline | None = None,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._given = pipeline
        self._begin_with(initializer, initargs)
        self._chunker = Chunker()
        self._session: _Session | None = None
        self._depth = 0
        self._lock = threading.Lock()

    @property
    def supports_inner_max_num_threads(self) -> bool:
        """Whether threads that libraries start in workers can be limited: not if the workers are there already."""
        return self._given is None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many calls run at once. Raises ValueError for 0."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or _in_worker():
            return 1
        if n_jobs > 0:
            return n_jobs
        there: int = joblib.cpu_count()
        if self._given is not None:
            # joblib runs what one alone would run in the calling process, and more may join at a pipeline's address.
            there = max(self._given._max_workers, 1 if self._given.url is None else 2)
        return max(there + 1 + n_jobs, 1)

    def _begin_with(self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
        if initializer is not None and self._given is not None:
            raise ValueError("a pipeline of your own has the initializer that it was made with: leave this one out")
        self._initializer = None if initializer is None else partial(initializer, *initargs)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        **_: object,
    ) -> int:
        """Get ready for calls, and return how many will run at once. An initializer here is of `Parallel` itself."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if initializer is not None:
            self._begin_with(initializer, initargs)
        with self._lock:
            self.parallel = parallel
            if self._session is None:
                self._session = self._begin(n_jobs)
            self._depth += 1
        return n_jobs

    def _begin(self, n_jobs: int) -> _Session:
        if self._given is not None:
            return _Session(self._given, None, n_jobs if n_jobs < self._given._max_workers else math.inf)
        lease = _borrow(n_jobs, self._prepare_worker_env(n_jobs), self._initializer)
        return _Session(lease.pipe, lease, math.inf)

    def start_call(self) -> None:
        """A Parallel object begins with its calls: nothing is known of how long they take."""
        self._chunker = Chunker()

    def compute_batch_size(self) -> int:
        """Return how many calls joblib is to hand over together."""
        return self._chunker.size(None, 1)

    def submit(self, func: Any, callback: _Done | None = None) -> None:
        """Have a batch of calls run, whose future `callback` gets. What keeps it from being run is its outcome."""
        assert self._session is not None
        self._session.submit(func, callback)

    apply_async = submit
    """The same, for joblib before 1.5."""

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return a batch's results, or raise what was raised."""
        seconds, values = out.result()
        self._chunker.observe(len(values), seconds, 0)
        return values

    def terminate(self) -> None:
        """A Parallel object needs the pipeline no more."""
        with self._lock:
            if self._session is None:  # it was aborted
                return
            self._depth -= 1
            if not self._depth:
                self._session.end()
                self._session = None

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Drop the calls of the Parallel object that is aborting. Those that run are killed in a pipeline kept here."""
        with self._lock:
            session = self._session
            if session is None:
                return
            session.cancel()
            if session.lease is not None and self._depth == 1 and _discard(session.lease):
                session.end()
                self._session = self._begin(self.effective_n_jobs(self.parallel.n_jobs)) if ensure_ready else None
                self._depth = int(ensure_ready)


def shutdown() -> None:
    """End the pipeline that is kept for the process, and wait for that, unless a Parallel object still uses it.

    The next call then starts another one. It ends with the process in any case.
    """
    with _leases:
        lease = _kept.pop() if _kept else None
    if lease is not None and not lease.users:
        lease.pipe.shutdown(wait=True)


class _Session:
    """Calls under way, `limit` batches at once at most.

    joblib's callbacks pull the script's iterables and wait for locks: they have a thread for it.
    """

    def __init__(self, pipe: Pipeline, lease: _Lease | None, limit: float) -> None:
        self.lease = lease
        self._pipe, self._limit = pipe, limit
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: deque[tuple[Any, _Done | None]] = deque()
        self._pending: dict[Future[Any], _Done | None] = {}
        self._done: SimpleQueue[Future[Any] | None] = SimpleQueue()
        threading.Thread(target=self._call_back, name="zpipe joblib", daemon=True).start()

    def submit(self, batch: Any, callback: _Done | None) -> None:
        with self._lock:
            if self._running >= self._limit:
                self._waiting.append((batch, callback))
                return
            self._running += 1
        self._send(batch, callback)

    def _send(self, batch: Any, callback: _Done | None) -> None:
        try:
            future = self._pipe.submit(_timed, batch)
        except Exception as error:  # noqa: BLE001 - joblib would let it go under in a callback, and wait for ever
            future = Future()
            future.set_exception(error)
        self._pending[future] = callback
        future.add_done_callback(self._done.put)

    def cancel(self) -> None:
        """Cancel what is of no use any more and has not been sent."""
        with self._lock:
            self._waiting = deque(entry for entry in self._waiting if not _aborting(entry[1]))
        for future, callback in list(self._pending.items()):
            if _aborting(callback):
                future.cancel()

    def end(self) -> None:
        """Call nobody back any more, once what has come by now has been taken."""
        self._done.put(None)
        if self.lease is not None:
            _give_back(self.lease)

    def _call_back(self) -> None:
        while (future := self._done.get()) is not None:
            with self._lock:
                following = self._waiting.popleft() if self._waiting else None
                self._running -= following is None
            if following is not None:
                self._send(*following)
            callback = self._pending.pop(future)
            if callback is not None:
                callback(future)
            del future, callback, following  # or the last ones would be kept while nothing comes


class _Lease:
    """A pipeline that Parallel objects share, and how many use it."""

    def __init__(self, key: object, pipe: Pipeline) -> None:
        self.key, self.pipe = key, pipe
        self.users = 0


_leases = threading.Lock()
_kept: list[_Lease] = []
"""The one that the next call may use, if there is one."""


def _borrow(n_jobs: int, environment: dict[str, str], initializer: Callable[[], object] | None) -> _Lease:
    """Return the kept pipeline, or another one if that has not as many workers, or others than are wanted."""
    content = b"" if initializer is None else dump_function(initializer)  # arguments may have changed
    key = (os.getpid(), n_jobs, environment, content)
    with _leases:
        if _kept and (_kept[0].key != key or _kept[0].pipe._broken):
            old = _kept.pop()
            if not old.users:
                old.pipe.shutdown(wait=False)
        if not _kept:
            _kept.append(_Lease(key, Pipeline(n_jobs, initializer=_setter(environment, initializer))))
        _kept[0].users += 1
        return _kept[0]


def _give_back(lease: _Lease) -> None:
    with _leases:
        lease.users -= 1
        if not lease.users and lease not in _kept:
            lease.pipe.shutdown(wait=False)


def _discard(lease: _Lease) -> bool:
    """Kill what runs in a pipeline, unless somebody else uses it as well."""
    with _leases:
        if lease.users > 1:
            return False
        if lease in _kept:
            _kept.remove(lease)
        lease.pipe._engine.abort(INTERRUPTED)
        return True


def _setter(environment: dict[str, str], initializer: Callable[[], object] | None) -> Callable[[], None]:
    def set_environment() -> None:
        os.environ.update(environment)
        if initializer is not None:
            initializer()

    # Not of this module's top, which workers would import for it, and with it the libraries that read the environment.
    return set_environment


def _aborting(callback: Any) -> bool:
    """Tell whether the Parallel object that a callback belongs to, if that is known, wants nothing any more."""
    return bool(getattr(getattr(callback, "parallel", None), "_aborting", True))


def _in_worker() -> bool:
    try:
        current()
    except RuntimeError:
        return False
    return True


def _timed(batch: Callable[[], list[Any]]) -> tuple[float, list[Any]]:
    """Run a batch of calls; return how many seconds it took, too."""
    began = time.perf_counter()
    values = batch()
    return time.perf_counter() - began, values


register_parallel_backend("zpipe", ZpipeBackend)
