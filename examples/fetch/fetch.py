"""Follows all links of a site, level by level: `python3 fetch.py [URL]`; without a URL, of a site of its own.

A task fetches a page and returns its links; the event loop only decides what to fetch next, each address once.
Prints a line for each page: how many links away it is, its status, its address.
"""

from __future__ import annotations

import asyncio
import sys
import urllib.error
import urllib.request
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin

import zpipe


class Links(HTMLParser):
    """Collects the addresses that a page links to, as they are written."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the address of a link."""
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def fetch(url: str) -> tuple[str, int, list[str]]:
    """Fetch a page; return its address, its status, and the addresses it links to, without what follows a #."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            page = answer.read().decode()
            return url, answer.status, [urldefrag(urljoin(url, link)).url for link in Links(page).found]
    except urllib.error.HTTPError as error:
        with error:
            return url, error.code, []


async def crawl(start: str) -> dict[str, tuple[int, int]]:
    """Fetch a page and all that can be reached from it below the same address; return (level, status) of each."""
    pages: dict[str, tuple[int, int]] = {}
    seen, level, number = {start}, [start], 0
    async with zpipe.AsyncPipeline(workers=4) as pipe:
        while level:
            following: dict[str, None] = {}
            async for url, status, links in pipe.map(fetch, level, chunksize=1, ordered=False):
                pages[url] = number, status
                following |= dict.fromkeys(link for link in links if link.startswith(start) and link not in seen)
            seen |= following.keys()
            level, number = list(following), number + 1
    return pages


def main(url: str = "") -> None:
    """Crawl; print the pages, the near ones first."""
    if url:
        pages = asyncio.run(crawl(url))
    else:
        from pages import serving

        with serving(100) as (url, requests):
            pages = asyncio.run(crawl(url))
        if sorted(requests) != sorted(page.removeprefix(url.rstrip("/")) for page in pages):
            sys.exit(f"the server was asked otherwise: {sorted(requests)}")
    for level, status, page in sorted((*found, page) for page, found in pages.items()):
        print(level, status, page)
    print(f"{len(pages)} pages", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
