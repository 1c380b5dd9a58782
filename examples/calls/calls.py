"""Calls a web service many times, as few at a time as it can bear: `python3 calls.py`.

The service is on this machine, answers after a moment, and counts: how often it is asked for each thing, and how many
calls are under way at once. The calls are coroutines on one event loop; there are no workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

import zpipe

AT_ONCE = 20
"""Calls that may be under way at a time."""


class Service:
    """A server of HTTP/1.1 in a thread of its own.

    `calls` counts by path, `times` is when each call came, `most` how many ran at once.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.times: list[float] = []
        self.most = self.port = 0
        self._now = 0
        self._up = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        self.calls[path] += 1
        self.times.append(time.monotonic())
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0.01)
        self._now -= 1
        status, body = "200 OK", json.dumps({"path": path}).encode()
        if path.endswith("7") and self.calls[path] == 1:
            status, body = "503 Service Unavailable", b"{}"
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        async with server:
            with contextlib.suppress(asyncio.CancelledError):
                await server.serve_forever()

    def _run(self) -> None:
        self._task = self._loop.create_task(self._serve())
        self._loop.run_until_complete(self._task)
        self._loop.close()

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Serve meanwhile."""
        self._thread.start()
        self._up.wait()
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join()


async def ask(port: int, path: str) -> dict[str, str]:
    """Return the service's answer. Raises zpipe.Retry when it can't answer now."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    if b" 503 " in head.split(b"\r\n")[0]:
        raise zpipe.Retry(after=0.05)
    answer: dict[str, str] = json.loads(body)
    return answer


def main() -> None:
    """Ask for 200 things; print how it went."""
    service = Service()
    paths = [f"/things/{number}" for number in range(200)]
    with service.serving(), zpipe.Pipeline(inline=True, concurrency=AT_ONCE, item_timeout=30) as pipe:
        answers = list(pipe.map(ask, [service.port] * len(paths), paths))
    print(f"{len(answers)} answers, {service.calls.total()} calls, at most {AT_ONCE} at a time")
    if [answer["path"] for answer in answers] != paths or not 1 < service.most <= AT_ONCE:
        sys.exit(f"wrong: {service.most} calls were under way at once")
    if any(calls != 1 + path.endswith("7") for path, calls in service.calls.items()):
        sys.exit("wrong: the service was asked too often, or too seldom")


if __name__ == "__main__":
    main()
