"""A site of a few pages on this host, to try it with. It notes what it is asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def page(number: int, count: int) -> str:
    """Return the text of a page: with links to others, to itself, to one that is missing, and away from here."""
    near = {number, number * 2 % count, (number * 2 + 1) % count}
    links = [f"/{other}.html" for other in sorted(near)] + [f"{number}.html#top", "http://example.invalid/"]
    if number % 10 == 0:
        links.append("missing.html")
    return "".join(f'<p><a href="{link}">{link}</a></p>' for link in links)


@contextmanager
def serving(count: int) -> Iterator[tuple[str, list[str]]]:
    """Serve pages; give the address that all begin with, which is the first of them, and the paths asked for."""
    asked: list[str] = []
    texts = {"/": page(0, count)} | {f"/{number}.html": page(number, count) for number in range(count)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            text = texts.get(self.path)
            self.send_response(404 if text is None else 200)
            self.end_headers()
            self.wfile.write((text or "no such page").encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", asked
        finally:
            server.shutdown()
            thread.join()
