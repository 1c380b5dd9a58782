"""The messages between nodes, and the words that they are made of. How they become bytes is in `zpipe.core.coding`.

Who sends what to whom, and in which order:

    control  (worker, sink) DEALER → ROUTER (ventilator)   Join, SinkJoin, Ready, Wide, Returned, Leave, Unfit,
                                                           Receipts, Doubt, Finished
    control  (ventilator) ROUTER → DEALER (worker, sink)   Welcome, Hold, Refuse, Recall, Issued, Total,
                                                           Copied, Stop, Bye
    control  (anybody) DEALER → ROUTER (ventilator)        Ask; the answer is a State
    lane     (ventilator) PUSH → PULL (one worker)         Task, then Chunk and Chunks of it
    results  (worker) PUSH → PULL (sink)                   Result, Results

    join       = Join *Hold (Welcome Ready / Refuse)      ; again, with the next turn, whenever a connection is cut
    work       = *(Task / Chunk / Chunks / Forget)        ; the ventilator keeps a lane's chunks under its window
    receipt    = (Result / Results) Receipts              ; worker → sink → ventilator
    issue      = *Issued *(Doubt Issued)                  ; ahead of the chunks; asked if a result was quicker
    recall     = Recall Returned                          ; what waits behind a straggler goes to others
    leave      = Leave *Receipts Bye                      ; handed back what was not started, the rest is receipted
    end        = Total *Receipts Finished Bye             ; counted, not guessed
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from zpipe.core.ranges import RangeSet
from zpipe.core.spec import Encoding, ItemKind, JobSpec

__all__ = [
    "KILLED", "LONGEST", "MAX_BYTES", "MAX_CONTROL_BYTES", "MAX_FRAMES", "MAX_WIDTH", "PROTOCOL", "REASON", "Ask",
    "Buffer", "Bye", "Chunk", "Chunks", "Control", "Copied", "Doubt", "Failure", "Fate", "Finished", "Forget", "Held",
    "Hold", "Issued", "Join", "Leave", "Message", "Ready", "Recall", "Receipt", "Receipts", "Refuse", "Result",
    "Results", "Returned", "SinkJoin", "State", "Stop", "Task", "Total", "Unfit", "Versions", "Welcome", "Wide",
]  # fmt: skip

Buffer = bytes | bytearray | memoryview

PROTOCOL = 1
"""Rises whenever a message changes; a join with another number is refused."""

MAX_FRAMES = 100_000
"""A message of more frames is refused."""

MAX_BYTES = 1 << 30
"""Bytes a frame of results may have; the transport cuts off whoever announces more."""

MAX_CONTROL_BYTES = 16 << 20
"""Bytes a control message may have on its way to the ventilator."""

MAX_WIDTH = 100_000
"""Items that one worker may run at a time."""

LONGEST = 1e9
"""Seconds that anything is waited for at most."""

Name = Annotated[str, msgspec.Meta(max_length=1000)]
"""What nodes are called or found by: it is remembered of many of them, and told."""

REASON = 100_000
"""Characters that a reason may have."""

Reason = Annotated[str, msgspec.Meta(max_length=REASON)]
"""Why a node can't go on, in words for a person."""

Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
"""A number of items, or an index: it stays a number of 64 bits when a few are added up."""


class _Header(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message's header."""


class Versions(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What must agree between nodes: protocol number, and (major, minor) of Python and cloudpickle."""

    protocol: int
    zpipe: Name
    python: Name
    cloudpickle: Name


KILLED = -9
"""The code of a process that SIGKILL has ended."""


class Fate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a worker's process ended over an item.

    `worker` is its name; it `began` the item then, in seconds since 1970 (0: that is not known), and had run it for so
    many `seconds`. `code` is its exit status, or the negative number of the signal that killed it.
    """

    worker: Name = ""
    began: float = 0.0
    seconds: float = 0.0
    code: int = 0


class Join(_Header, frozen=True, tag="join"):
    """A worker asks for a lane. `session` is drawn once per process; `turn` rises with each fresh start of it.

    `previous` is the pid of the slot's last process (0: none), `ended` how that ended, and `crashed` whether by its
    own fault. `item` is the index of what it ran then, if that is known; with `late` it was killed since that ran too
    long. `fate` has the rest of it; its worker's name is the ventilator's to say.
    """

    versions: Versions
    session: Name
    turn: Count
    host: Name
    pid: int
    slot: int
    previous: int = 0
    ended: Name = ""
    crashed: bool = False
    item: Count | None = None
    late: bool = False
    fate: Fate = Fate()
    labels: list[Name] = []
    """What tells this worker from others: `gpu`, or `gpu=1`."""


class Held(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a sink has of a job already, and would have after its own death, if it has a journal.

    `job` is the job's id, empty while it has nothing, and `fingerprint` tells that job from others. `done` are the
    `RangeSet.runs` of the items whose outcomes count, `failed` of which are errors. `limit`, once set, is the index
    behind the first hit in input order.
    """

    job: str = ""
    fingerprint: dict[str, str] = {}
    done: list[int] = []
    failed: Count = 0
    limit: Count | None = None

    @property
    def ranges(self) -> RangeSet:
        """What is done, as a set."""
        return RangeSet.of_runs(self.done)


class SinkJoin(_Header, frozen=True, tag="sink"):
    """A sink offers `endpoint` for results, wanting them in `encoding`; `held` is what it has already.

    `key` is the public key of that endpoint, if it has one.
    """

    versions: Versions
    session: Name
    turn: Count
    host: Name
    pid: int
    endpoint: Name
    encoding: Encoding
    held: Held = Held()
    letters: bool = False
    joblog: bool = False
    key: Name = ""


class Welcome(_Header, frozen=True, tag="welcome"):
    """The ventilator's answer to the join of the same `turn`: a lane, and for a worker where results go.

    `key` is what the sink there must show, if it is in a process of its own and has a key.

    An endpoint whose host is `*` is on the host the joiner reached the ventilator at. A sink is told the job's
    `fingerprint`, by which a ventilator that is started anew knows its job again.
    """

    job: str
    turn: int
    lane: int
    endpoint: str
    sink: str = ""
    fingerprint: dict[str, str] = {}
    key: str = ""
    ticket: str = ""
    """What the lane has to be shown, if it is on TCP and there is no key: nobody else is let in there."""


class Hold(_Header, frozen=True, tag="hold"):
    """The ventilator heard a join but can't answer it yet, for this reason."""

    reason: str


class Refuse(_Header, frozen=True, tag="refuse"):
    """The ventilator will not have this node, for this reason."""

    reason: str


class Ready(_Header, frozen=True, tag="ready"):
    """All connections of this lane's node stand: chunks may come down it, or results to it."""

    lane: int


class Recall(_Header, frozen=True, tag="recall"):
    """Ventilator → worker: others could run what waits on this lane; give back what has not been started.

    `items`: of the running chunk too.
    """

    lane: int
    items: bool = False


class Wide(_Header, frozen=True, tag="wide"):
    """The worker of this lane runs up to `items` items of this task at a time, on an event loop.

    `busy`: some that came by an earlier lane of its run there still.
    """

    lane: int
    task: int
    items: Annotated[int, msgspec.Meta(ge=1, le=MAX_WIDTH)]
    busy: bool = False


class Returned(_Header, frozen=True, tag="returned"):
    """The worker's answer to a recall: of the chunks sent down the lane it won't run those after the `after`-th, up to
    the `upto`-th, which is the last that has arrived. Of the `after`-th, which is running, it won't run the items from
    index `cut` on (0: it runs all of them).
    """

    lane: int
    after: int
    upto: int
    cut: int = 0


class Leave(_Header, frozen=True, tag="leave"):
    """The worker takes no more: of the chunks sent down its lane it has started none after the `taken`-th.

    Of that, which is running, it won't run the items from index `cut` on (0: it runs all of them).
    `replaced`: a fresh process of its slot follows, so that nobody need be told.
    """

    lane: int
    taken: int
    cut: int = 0
    replaced: bool = False


class Unfit(_Header, frozen=True, tag="unfit"):
    """The worker can't load the job's task, for this reason."""

    lane: int
    reason: Reason


class Task(_Header, frozen=True, tag="task"):
    """A function of the job: down the lane, ahead of its first chunk."""

    job: str
    spec: JobSpec
    number: int = 0


class Forget(_Header, frozen=True, tag="forget"):
    """No chunk of this task follows."""

    number: int


class Chunk(_Header, frozen=True, tag="chunk"):
    """Items `[start, stop)` of the job for task `task`, on their `attempt`-th attempt (from 1).

    The payload holds `skip` items ahead of them, and perhaps some behind, which are not to be run. With a `doom` none
    is: they fail, and that is why; if they are `late` they ran too long, which is a try that failed as any other; if
    they are `expired` their time had passed before they were sent. The last one that ran them had this `fate`.
    `tries` of them have failed so far.

    With a `grain` it is a row of chunks of so many items, each by itself in `grains` and to be run, lost and told of by
    itself: what is skipped is of the first, what is behind of the last.
    """

    start: int
    stop: int
    attempt: int
    items: ItemKind
    task: int = 0
    skip: int = 0
    doom: str = ""
    tries: int = 0
    body: memoryview | None = None
    late: bool = False
    expired: bool = False
    fate: Fate | None = None
    grain: Count = 0
    grains: list[bytes] = []


class Chunks(_Header, frozen=True, tag="chunks"):
    """Several chunks whose payloads are inside them, to be run one after another."""

    chunks: list[Chunk]


class Failure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One item's error: `index` in the job, the exception's type and message, its traceback as text.

    `letter` is its line for the dead letters, if those are kept.
    """

    index: int
    type: str
    message: str
    traceback: str = ""
    letter: bytes = b""


class Result(_Header, frozen=True, tag="result"):
    """Outcomes of items `[start, stop)`: `seconds` is how long the worker took, `hit` the index that ends the job.

    With `again` there are none: the items are to be tried again, in so many seconds. `log` are the items' lines for the
    job log, if there is one. `kept` has each item's outcome once more, by itself, in a job that wants to know them
    (empty: it is not kept). Those of a row of chunks of equal size, none of whose items failed, are in `grains`.
    """

    job: Name
    lane: int
    start: Count
    stop: Count
    attempt: int
    seconds: float
    failures: list[Failure] = []
    hit: Count | None = None
    again: float | None = None
    body: memoryview | None = None
    log: bytes = b""
    kept: list[bytes] = []
    grains: list[bytes] = []


class Results(_Header, frozen=True, tag="results"):
    """Several results whose payloads are inside them."""

    results: list[Result]


class Receipt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The sink has the outcomes of `[start, stop)`, `failed` of them errors, from `lane`, which took `seconds`.

    With `again` it has been told that this `attempt` of them failed, and that another is wanted in so many seconds.
    `void`: they did not fail, but came in one piece with items that were done already, so that it could not be taken;
    or they did while a copy of them runs, which is still to be heard of. `kept` is what the result had.
    """

    start: Count
    stop: Count
    lane: int
    seconds: float
    failed: Count
    size: Count
    again: float | None = None
    attempt: int = 0
    void: bool = False
    kept: list[bytes] = []


class Receipts(_Header, frozen=True, tag="receipts"):
    """What the sink took since the last one. `full`: hold new chunks back, the reorder buffer is at its bound.

    `limit`, once set, is the index behind the first hit in input order: nothing from there on is wanted. `lag`: how
    many seconds a result waits for its receipt, since it has to be in the sink's journal first.
    """

    job: str
    receipts: list[Receipt]
    full: bool = False
    limit: Count | None = None
    lag: float = 0.0

    def parted(self, most: int) -> list[Receipts]:
        """Return this as several messages, each with `most` bytes of outcomes unless a single receipt has more."""
        if not any(receipt.kept for receipt in self.receipts):
            return [self]
        parts: list[list[Receipt]] = [[]]
        size = 0
        for receipt in self.receipts:
            more = sum(map(len, receipt.kept))
            if parts[-1] and size + more > most:
                parts.append([])
                size = 0
            parts[-1].append(receipt)
            size += more
        return [msgspec.structs.replace(self, receipts=part) for part in parts]


class Total(_Header, frozen=True, tag="total"):
    """The job has this many items, known now that its source has ended."""

    job: str
    items: Count


class Issued(_Header, frozen=True, tag="issued"):
    """Ventilator → sink: items `[0, items)` were issued, no others: sent ahead of the chunks. `doubt`: it was asked."""

    job: str
    items: Count
    doubt: int = 0


class Doubt(_Header, frozen=True, tag="doubt"):
    """Sink → ventilator: results have come of items that it has not been told were issued. `Issued` answers."""

    job: str
    number: int


class Copied(_Header, frozen=True, tag="copied"):
    """Ventilator → sink: items `[start, stop)` are run by two workers, so that one's failure is not the last word."""

    job: str
    start: int
    stop: int


class Stop(_Header, frozen=True, tag="stop"):
    """Ventilator → sink: the job ends here as it is (`reason`); keep what is done, finish nothing more."""

    job: str
    reason: str


class Finished(_Header, frozen=True, tag="finished"):
    """Sink → ventilator: the output stands (`error` empty) or can't be (`error` says why)."""

    job: str
    done: int
    failed: int
    duplicates: int = 0
    hit: int | None = None
    error: str = ""
    strays: int = 0


class Ask(_Header, frozen=True, tag="ask"):
    """A person wants this of the job; or a sink that is told to stop wants it drained. `State` answers."""

    wish: Literal["status", "pause", "unpause", "drain", "cancel"]


class State(_Header, frozen=True, tag="state"):
    """Where a job is: its `phase` in a word, `items` with an outcome of a `total` (None: not known; `exact` or not).

    `in_flight` are chunks, `seconds` the time it has been there, `note` what it waits for. `cached` items had their
    outcome from the cache, `repeated` from another item.
    """

    job: str
    phase: str
    items: int
    failed: int
    total: int | None
    exact: bool
    workers: int
    in_flight: int
    seconds: float
    paused: bool = False
    draining: bool = False
    note: str = ""
    cached: int = 0
    repeated: int = 0


class Bye(_Header, frozen=True, tag="bye"):
    """Ventilator → worker or sink: nothing more is wanted of you. `failed` is why, if the job went wrong."""

    failed: str = ""


Control = (
    Join
    | SinkJoin
    | Welcome
    | Hold
    | Refuse
    | Ready
    | Recall
    | Wide
    | Returned
    | Leave
    | Unfit
    | Receipts
    | Total
    | Copied
    | Issued
    | Doubt
    | Stop
    | Finished
    | Ask
    | State
    | Bye
)
Message = Control | Task | Forget | Chunk | Chunks | Result | Results
