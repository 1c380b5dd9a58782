"""The tasks of `dramatiq_`, as its workers import them."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
import redis
import tasks
from dramatiq.brokers.redis import RedisBroker
from dramatiq.encoder import PickleEncoder
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from peers import lump, redis_

__all__ = ["many", "one"]

client = redis.Redis(unix_socket_path=os.environ.get(redis_.PLACE, ""))
dramatiq.set_encoder(PickleEncoder())
broker = RedisBroker(client=client)
broker.add_middleware(Results(backend=RedisBackend(client=client, encoder=PickleEncoder())))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def one(function: str, item: Any) -> Any:
    """Run a function of `tasks` on an item."""
    return getattr(tasks, function)(item)


@dramatiq.actor(store_results=True)
def many(function: str, items: list[Any]) -> list[Any]:
    """Run a function of `tasks` on a list."""
    return lump(getattr(tasks, function), items)
