"""`Pipeline`: the executor that scripts already know how to use, on the pipeline that the command line runs.

It takes work from any thread and gives futures and iterators back; what happens in between is the engine's business.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, TypeVar

from zpipe import light
from zpipe.api import given
from zpipe.api.calls import Calls
from zpipe.api.exits import CUT, INTERRUPTED
from zpipe.nodes.started import Started, cores, stdout

if TYPE_CHECKING:
    from datetime import timedelta

    from zpipe.api.claimed import Claimed
    from zpipe.api.engine import Engine
    from zpipe.api.futures import PipelineFuture
    from zpipe.api.maps import MapCall
    from zpipe.api.options import Options
    from zpipe.core.spec import Call
    from zpipe.jobs.terms import RetryOn
    from zpipe.report.progress import Snapshot

__all__ = ["Pipeline"]

T = TypeVar("T")

AFTER = "cannot schedule new futures after shutdown"

_SIZED: tuple[type, ...] = (
    str,
    bytes,
    bytearray,
    set,
    frozenset,
    dict,
    type({}.keys()),
    type({}.values()),
    type({}.items()),
)


class Pipeline(Calls, Executor):
    """Runs functions in worker processes, here and on other hosts, and gives each result back exactly once.

    It is a `concurrent.futures.Executor`, and a context manager that waits for everything on leaving.

    workers: processes of this machine (None: one a core; 0: none, only those that join at `bind`). `max_workers` is
        the same, for code that moves over.
    bind: an address such as `tcp://0.0.0.0:5557` at which `zpipe worker URL` on any host with the same key may join.
    key_file: that key, as `zpipe keygen` makes it (None: the one that ZPIPE_KEY_FILE names, or that of the default
        place, if there is one).
    insecure: True to do without a key, which an address that other hosts can reach needs else: whoever reaches it can
        then run code.
    initializer, initargs: called once in each worker, ahead of everything.
    chunk: items sent together (None: as many as take some 50 ms by the workers' own timings).
    progress: True for a bar on stderr, or a function that is called with a `Snapshot` now and then.
    heartbeat: seconds without a sign of life after which a worker's host counts as gone.
    speculate: whether what takes clearly longer than usual is run by an idle worker too; the first result counts. The
        slower worker is not stopped in the middle of an item: it is busy until that ends, or the pipeline does.
    retries: how often an item that fails is tried again, on another worker if there is one; for exceptions of the types
        `retry_on` only, if given. In `retry_delay` seconds at most, twice as many after each further try, and
        `retry_max_delay` at most. A task may raise `zpipe.Retry` or `zpipe.Reject` instead.
    item_timeout: seconds an item may run. Then its worker is killed with all it has started, whatever code it is in,
        and a try has failed with `zpipe.errors.ItemTimeout`, a TimeoutError; the rest of its chunk is run again.
    max_memory: bytes of RAM that a worker and all it has started may hold (resident; Linux only). More is a crash.
    max_crashes: an item over which so many workers have crashed fails with `zpipe.WorkerLost`.
    max_tasks_per_worker: items after which a worker's process is replaced by a fresh one, for libraries that leak.
    concurrency: calls of a coroutine function (`async def`) that each worker runs at a time, on one event loop (None:
        100). Other functions run one call at a time in each.
    inline: True to have no workers: everything runs in this process, ordinary functions in the thread that submits
        them or takes a map's results, where a debugger may stop in them. Arguments and results are copied as ever.
    unique: True to run each function once for equal items: later ones get the first one's outcome, its exception too.
        Or a function that is called with the same arguments, and returns what items are to be known by.
    cache: a file that has results of earlier runs, and gets those of this one; it is made if need be. An item whose
        result for the same function is there is not run. Or the address of a Redis, `redis://HOST:PORT/0`.
    rate, burst: start so many items a second at most (or `"30/m"`), over all workers, and so many at once after a rest.
        max_in_flight: have so many at workers at a time. rate_per_key, burst_per_key, max_in_flight_per_key: the same
        for each `rate_key` of `options`. ageing: seconds in which an item that waits comes to count as one of a
        priority higher by 1. labels: what the workers of this machine have, for items that require it.
    cache_ttl: seconds for which results in there are good (None: for ever). cache_size: bytes that the file may have.

    Raises UsageError for an address that can't be bound or a key that can't be used, ValueError and TypeError for what
    makes no sense.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        max_workers: int | None = None,
        bind: str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        chunk: int | None = None,
        progress: bool | Callable[[Snapshot], object] = False,
        heartbeat: float = 10.0,
        key_file: str | os.PathLike[str] | None = None,
        insecure: bool = False,
        speculate: bool = False,
        retries: int = 0,
        retry_delay: float = 1.0,
        retry_max_delay: float = 60.0,
        retry_on: RetryOn = None,
        item_timeout: float | None = None,
        max_memory: int | None = None,
        max_crashes: int = 3,
        max_tasks_per_worker: int | None = None,
        concurrency: int | None = None,
        inline: bool = False,
        unique: bool | Callable[..., object] = False,
        cache: str | os.PathLike[str] | None = None,
        cache_ttl: float | None = None,
        cache_size: int | None = None,
        rate: float | str | None = None,
        burst: float | None = None,
        max_in_flight: int | None = None,
        rate_per_key: float | str | None = None,
        burst_per_key: float | None = None,
        max_in_flight_per_key: int | None = None,
        ageing: float | str | timedelta | None = None,
        labels: Sequence[str] = (),
    ) -> None:
        if inline:
            given.check_inline(workers, max_workers, bind, max_memory, max_tasks_per_worker)
            workers, max_workers = 1, None
        wanted = given.workers(workers, max_workers, bind)
        wanted = cores() if wanted is None else wanted
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if chunk is not None and (chunk := given.whole("chunk", chunk)) < 1:
            raise ValueError(f"chunks of {chunk} items can't be: give a number from 1 on, or None")
        started = Started(stdout()) if wanted and not inline else None
        try:
            with light.quiet():  # it takes its time; the workers' process has its own to load meanwhile
                from zpipe.api import opening

            self._engine: Engine = opening.engine(
                wanted,
                started,
                bind,
                inline=inline,
                initializer=initializer,
                initargs=initargs,
                chunk=chunk,
                progress=progress,
                heartbeat=given.heartbeat(heartbeat),
                key_file=key_file or os.environ.get("ZPIPE_KEY_FILE"),
                insecure=insecure,
                speculate=speculate,
                labels=labels,
                limits={
                    "retries": retries,
                    "retry_delay": retry_delay,
                    "retry_max_delay": retry_max_delay,
                    "retry_on": retry_on,
                    "item_timeout": item_timeout,
                    "max_memory": max_memory,
                    "max_crashes": max_crashes,
                    "max_tasks_per_worker": max_tasks_per_worker,
                    "concurrency": concurrency,
                },
                spared={"unique": unique, "cache": cache, "cache_ttl": cache_ttl, "cache_size": cache_size},
                rates={
                    "rate": rate,
                    "burst": burst,
                    "max_in_flight": max_in_flight,
                    "rate_per_key": rate_per_key,
                    "burst_per_key": burst_per_key,
                    "max_in_flight_per_key": max_in_flight_per_key,
                    "ageing": ageing,
                },
            )
        except BaseException:
            if started is not None:
                started.abandon()
            raise
        # One that is let go of without a word ends by itself once its work is done.
        weakref.finalize(self, self._engine.close, AFTER).atexit = False

    # what there is

    @property
    def url(self) -> str | None:
        """The address at which workers of other hosts may join; None without `bind`."""
        return self._engine.url

    @property
    def workers(self) -> int:
        """Workers that are ready now, those of other hosts included."""
        return self._engine.workers

    @property
    def _max_workers(self) -> int:
        return max(self._engine.slots, 1)

    @property
    def _broken(self) -> bool:
        return self._engine.broken is not None

    def resize(self, workers: int) -> None:
        """Have this many worker processes here from now on; those too many leave after the item they are at."""
        if (workers := given.whole("workers", workers)) < 0:
            raise ValueError(f"{workers} workers can't be: give a number from 0 on")
        engine = self._engine
        with engine.lock:
            engine.check()
        engine.resize(workers)

    def __reduce__(self) -> Any:
        raise TypeError(
            "a pipeline can't be sent to a worker: a task that needs one makes its own, or calls zpipe.map and the like"
        )

    # single calls

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have `fn(*args, **kwargs)` called in a worker; return the future of its result.

        The function or arguments that can't be pickled fail the future. Raises RuntimeError after `shutdown`, and
        BrokenPipeline if the pipeline has ended before its time.
        """
        engine = self._engine
        future: PipelineFuture[T] = engine.future()
        future.hand = engine.helm
        with engine.lock:
            engine.check()
            try:
                engine.check_function(fn)
                function = engine.functions.find(fn, "full" if kwargs else "star")
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - pickling runs the user's own code
                future.set_running_or_notify_cancel()
                future.set_exception(error)
                return future
            engine.submit(function, (args, kwargs) if kwargs else args, future)
        engine.dispatch()
        return future

    def options(
        self,
        *,
        priority: Any = None,
        delay: Any = None,
        eta: Any = None,
        ttl: Any = None,
        key: Any = None,
        rate_key: Any = None,
        requires: Any = None,
    ) -> Options:
        """Return this pipeline's calls (`submit`, `map` and all others) for items of which something is said.

        Each thing is a value, for all items, or a function that is called with what the item's own is called with, and
        returns it, or None. It runs in the pipeline's thread: keep it short. An item of which it raises fails.

        priority: a number; higher goes first, ahead of whatever does not run yet, of this call or others; 0 is usual.
        delay: seconds to wait, from the call on, or from when a lazy iterable gave the item; also `"5m"`, a timedelta.
        eta: when it may begin; a datetime, ISO 8601, or seconds since 1970. ttl: seconds from when it could begin after
        which it fails with `zpipe.errors.Expired`, if no worker was sent it. key: of the items with one key one at a
        time runs, in their order. rate_key: whose `rate_per_key` and the like hold. requires: labels that its worker
        must have, such as `"gpu"` or `"gpu=1"`; several in a list.

        A later stage of a map has its `priority`, if that is a value, and no more. What waits is let go of when its
        future is cancelled; `shutdown` waits for it, however long that is, or cancels it. A lazy iterable is read
        10,000 items or 64 MB ahead at most. Raises ValueError for what makes no sense.
        """
        from zpipe.api.options import Options

        wished = {"priority": priority, "delay": delay, "eta": eta, "ttl": ttl}
        wished |= {"key": key, "rate_key": rate_key, "requires": requires}
        return Options(self, **wished)

    # many calls

    def start_map(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any],
        call: Call = "one",
        *,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        pull: bool = True,
        kind: Callable[..., MapCall] | None = None,
        claimed: Claimed | None = None,
    ) -> MapCall:
        """Begin a map and return its state, for those that take its results in a way of their own.

        `pull`: items of lazy iterables are pulled at once, some way ahead. `kind` makes the state, if it is to be of
        a class of its own. `claimed`: what its items claim. Raises as `map` does.
        """
        from zpipe.api.functions import QUICK
        from zpipe.api.maps import MapCall
        from zpipe.core.chunking import Chunker
        from zpipe.running.awaitables import CONCURRENCY, is_async

        chunksize = given.sizes(chunksize, buffersize)
        if isinstance(items, _SIZED):
            items = list(items)
        engine = self._engine
        with engine.lock:
            engine.check()
            engine.check_function(fn)
            function = engine.functions.find(fn, call)
        chunker = function.chunker
        if chunksize is not None:
            chunker = Chunker(target=QUICK, floor=QUICK, least=chunksize)
        made = (kind or MapCall)(
            function,
            items,
            wake=engine.wake,
            chunker=chunker,
            slots=lambda: engine.slots,
            news=engine.news(),
            width=(engine.concurrency or CONCURRENCY) if is_async(fn) else 1,
            ordered=ordered,
            bound=buffersize,
        )
        made.claimed = claimed
        with engine.lock:  # not above: the iterable's own code may take its time, or use this pipeline
            engine.check()
            engine.add(made)
        if pull:
            try:
                made.pull()
            except BaseException:  # an interrupt: nobody has what would end the iterable
                made.close()
                raise
        return made

    # the end

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more. What was submitted is still run, unless `cancel_futures` cancels what no worker has yet.

        With `wait` this returns when everything has its outcome and all processes and threads have ended. Items that a
        lazy iterable would still give are pulled for a map that nobody has iterated; of one that somebody has begun to
        iterate, or that has a `buffersize`, no more are pulled.
        """
        engine = self._engine
        for call in engine.maps():
            if cancel_futures:
                call.close()
            elif call.patient:
                call.cut(RuntimeError(CUT))
            else:
                call.pull(whole=True)
        engine.close(AFTER, cancel=cancel_futures)
        if wait:
            engine.join()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for call in self._engine.maps():
                if call.started or not call.sized:
                    call.close()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._engine.abort(INTERRUPTED)
        self.shutdown(wait=True)
