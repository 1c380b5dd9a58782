"""`AsyncPipeline`: a pipeline for programs that run in an event loop, a thin face on `Pipeline`.

The rule: the loop never waits, and there is no thread beside the pipeline's own. That one rings when something is
there, once however much it is; the loop then takes what there is. Threads of the loop's default executor are used to
start and to end a pipeline, which take their time, and for nothing else: unpickling holds the interpreter's lock
wherever it is done, so that chunks are unpickled in the loop, and other tasks get their turn between them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from zpipe.api.async_calls import AsyncCalls, Door
from zpipe.api.pipeline import Pipeline
from zpipe.report.progress import Snapshot

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from zpipe.api.options import Options
    from zpipe.jobs.terms import Limits
    from zpipe.schedule.claims import Wishes

__all__ = ["AsyncOptions", "AsyncPipeline"]


class AsyncPipeline(AsyncCalls):
    """Runs functions in worker processes, here and on other hosts, for coroutines to await.

    It takes `Pipeline`'s arguments, and is used in `async with`, which waits for everything on leaving; then nothing
    more is taken (RuntimeError). It belongs to the event loop that it was entered in.
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
        inline: bool = False,
        **limits: Unpack[Limits],
    ) -> None:
        self._make = partial(
            Pipeline,
            workers,
            max_workers=max_workers,
            bind=bind,
            initializer=initializer,
            initargs=initargs,
            chunk=chunk,
            progress=progress,
            heartbeat=heartbeat,
            key_file=key_file,
            insecure=insecure,
            speculate=speculate,
            inline=inline,
            **limits,
        )
        self._made: Pipeline | None = None

    async def __aenter__(self) -> AsyncPipeline:  # noqa: PYI034 - typing.Self is of Python 3.11
        if self._made is not None:
            raise RuntimeError("this pipeline has been entered before: make another one")
        self._door = Door(asyncio.get_running_loop())
        self._made = await asyncio.to_thread(self._make)
        self._made._engine.take_thread()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *details: object) -> None:
        await asyncio.to_thread(self._pipe.__exit__, kind, *details)

    @property
    def _pipe(self) -> Pipeline:
        if self._made is None:
            raise RuntimeError("an AsyncPipeline starts in `async with`")
        return self._made

    @property
    def url(self) -> str | None:
        """The address at which workers of other hosts may join; None without `bind`."""
        return self._pipe.url

    @property
    def workers(self) -> int:
        """Workers that are ready now, those of other hosts included."""
        return self._pipe.workers

    def resize(self, workers: int) -> None:
        """Have this many worker processes here from now on; those too many leave after the item they are at."""
        self._pipe.resize(workers)

    async def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more; as `Pipeline.shutdown`, and awaits the end if it is to `wait` for it."""
        await asyncio.to_thread(self._pipe.shutdown, wait, cancel_futures=cancel_futures)

    def options(self, **wishes: Unpack[Wishes]) -> AsyncOptions:
        """Return this pipeline's calls for items of which something is said; see `Pipeline.options`."""
        return AsyncOptions(self._pipe.options(**wishes), self._door)


class AsyncOptions(AsyncCalls):
    """What `AsyncPipeline.options` returns: its `submit`, `map`, `reduce` and `first`, with what was wished."""

    def __init__(self, options: Options, door: Door) -> None:
        self._options, self._door = options, door

    @property
    def _pipe(self) -> Options:
        return self._options

    def options(self, **wishes: Unpack[Wishes]) -> AsyncOptions:
        """Return the same with these wishes besides, or in place of those of the same name."""
        return AsyncOptions(self._options.options(**wishes), self._door)
