"""The tasks of `celery_`, as its workers import them."""

from __future__ import annotations

import os
from typing import Any

import tasks
from celery import Celery

from peers import lump, redis_

__all__ = ["app", "many", "one"]

PLACE = f"{os.environ.get(redis_.PLACE, '')}"

app = Celery("bench", broker=f"redis+socket://{PLACE}", backend=f"redis+socket://{PLACE}")
app.conf.update(
    accept_content=["pickle"],
    result_accept_content=["pickle"],
    task_serializer="pickle",
    result_serializer="pickle",
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "1")),
    worker_disable_rate_limits=True,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)


@app.task
def one(function: str, item: Any) -> Any:
    """Run a function of `tasks` on an item."""
    return getattr(tasks, function)(item)


@app.task
def many(function: str, items: list[Any]) -> list[Any]:
    """Run a function of `tasks` on a list."""
    return lump(getattr(tasks, function), items)
