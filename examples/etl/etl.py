"""Three stages: an order becomes its parts, a part gets its price, a price becomes an amount in euros."""

from __future__ import annotations

from collections.abc import Iterator

Part = dict[str, object]

PRICES = {f"{letter}{digit}": 100 * (n + 1) + 25 * digit for n, letter in enumerate("ABCDEFGH") for digit in range(4)}
"""Cents, or what cents are there, for a piece of each article."""

RATES = {"AT": 1000, "DE": 1000, "FR": 1000, "CH": 1043, "JP": 6}
"""Thousandths of a euro's cent for a hundredth of the country's currency."""


def parse(line: str) -> Iterator[Part]:
    """A part for each article of an order; none for a comment."""
    if line.startswith("#"):
        return
    number, country, parts = line.split(";")
    for part in parts.split(","):
        article, _, pieces = part.partition(":")
        yield {"order": int(number), "country": country, "article": article, "pieces": int(pieces)}


def enrich(part: Part) -> Iterator[Part]:
    """The part with its price; articles that are not sold any more are left out."""
    price = PRICES.get(str(part["article"]))
    if price is not None:
        yield {**part, "price": price}


def convert(part: Part) -> Part:
    """What a part is worth in millicents of a euro, by country."""
    worth = int(str(part["pieces"])) * int(str(part["price"])) * RATES[str(part["country"])]
    return {"country": part["country"], "worth": worth}


def add(so_far: int, part: Part) -> int:
    """Add up what parts are worth."""
    return so_far + int(str(part["worth"]))


def country(part: Part) -> str:
    """What parts are added up by."""
    return str(part["country"])
