"""What of a job need not be run: items whose outcome is known, and those that are like one that is under way.

Each item may have a digest, and items of one digest have one outcome: the first of them is run, later ones follow it.
What is set aside takes its place in the ledger as a chunk that no lane is to have, until its receipt comes. Must not
know what a digest is made of, where outcomes are stored, nor how they are told.

An outcome is known from the receipt that tells that the item is done. Where that was lost, or the outcome was too large
to come with it, the first follower is run in its turn, and the others follow that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from zpipe.core.chunk import Chunk
from zpipe.core.chunking import Chunker
from zpipe.core.claim import Claim
from zpipe.core.ledger import Ledger
from zpipe.core.spec import ItemKind
from zpipe.core.wire import Buffer, Receipt

__all__ = ["Answer", "Found", "Loaded", "Sieve"]

MOST, MOST_BYTES = 20_000, 64 << 20
"""Items, and bytes of outcomes, that may be set aside; more are not read until some of those have their receipts."""

TOGETHER = 1 << 20
"""Bytes of outcomes from which on they are not told together."""


class Cut(Protocol):
    """Makes payloads of parts of items that were read together."""

    def __call__(self, start: int, stop: int, /) -> tuple[ItemKind, Sequence[Buffer]]:
        """Return the payload of the items from one position to before another."""

    def skip(self, start: int, /) -> int:
        """Return how many items that has ahead of the one at `start`."""


class Loaded:
    """Items that were read together. `digests` has one for each (None: it is like no other, whatever it is).

    `known` has the outcomes of those in this job's past, by digest, `stored` those of other jobs. `cut` makes a payload
    of a part of them. With another key than the item itself, `marks` are what outcomes are to be stored by. Where there
    is a schedule, all claim `claim`, from when they were read.
    """

    __slots__ = ("_wanted", "at", "chunker", "claim", "cut", "digests", "items", "known", "marks", "stored", "task")

    def __init__(
        self,
        items: Sequence[Any],
        digests: Sequence[bytes | None],
        cut: Cut,
        *,
        known: dict[bytes, bytes] | None = None,
        stored: dict[bytes, bytes] | None = None,
        marks: Sequence[bytes | None] | None = None,
        task: int = 0,
        chunker: Chunker | None = None,
        claim: tuple[Claim, float] | None = None,
    ) -> None:
        self.claim = claim
        self.items, self.digests, self.cut = items, digests, cut
        self.known = known if known is not None else {}
        self.stored = stored if stored is not None else {}
        self.marks = digests if marks is None else marks
        self.task, self.chunker = task, chunker
        self.at = 0
        """How many of them have been dealt with."""
        self._wanted = {digest for digest in digests if digest is not None}

    def learn(self, digest: bytes, outcome: bytes) -> None:
        """An item like some of these, perhaps, is done."""
        if digest in self._wanted:
            self.known[digest] = outcome

    def outcome(self, position: int) -> bytes | None:
        """What is known of an item, if anything is."""
        digest = self.digests[position]
        if digest is None:
            return None
        found = self.known.get(digest)
        if found is None and (mark := self.marks[position]) is not None:
            found = self.stored.get(mark)
        return found


class Answer:
    """The outcomes of a chunk that is set aside, one for each of its items, which are to be told to the sink.

    `hits` of them are from elsewhere. `cut` makes the chunk's payload, if it has none, and `marks` are its items'
    digests and what their outcomes are to be stored by, should they be run after all.
    """

    __slots__ = ("chunk", "cut", "hits", "items", "marks", "outcomes", "size")

    def __init__(
        self,
        chunk: Chunk,
        items: Sequence[Any],
        outcomes: list[bytes],
        hits: int = 0,
        cut: Callable[[], tuple[ItemKind, Sequence[Buffer]]] | None = None,
        marks: Sequence[tuple[bytes | None, bytes | None]] = (),
    ) -> None:
        self.marks = marks
        self.chunk, self.items, self.outcomes, self.hits, self.cut = chunk, items, outcomes, hits, cut
        self.size = sum(map(len, outcomes))


class Found:
    """An outcome that is news: of which digest, and what it is to be stored by."""

    __slots__ = ("digest", "mark", "outcome")

    def __init__(self, digest: bytes, mark: bytes | None, outcome: bytes) -> None:
        self.digest, self.mark, self.outcome = digest, mark, outcome


class _First:
    """An item that is run, by which others may go."""

    __slots__ = ("digest", "followers", "mark")

    def __init__(self, digest: bytes, mark: bytes | None) -> None:
        self.digest, self.mark = digest, mark
        self.followers: list[tuple[Chunk, Sequence[Any]]] = []


class Sieve:
    """Parts what is to be run from what is not, for one ledger. `most` items may be set aside at a time."""

    def __init__(self, ledger: Ledger, most: int = MOST) -> None:
        self._ledger = ledger
        self._most = most
        self._loaded: Loaded | None = None
        self._others: dict[int, Loaded] = {}
        self._leaders: dict[bytes, int] = {}
        self._firsts: dict[int, _First] = {}
        self._told: dict[int, Answer] = {}
        self._aside = self._bytes = 0
        self.answers: deque[Answer] = deque()
        """What is to be told, in this order: whoever takes one calls `on_told` or `on_refused`."""
        self.found: list[Found] = []
        """Outcomes that are to be stored; whoever does so clears it."""
        self.hits = 0
        """Items whose outcome was known from elsewhere."""
        self.repeats = 0
        """Items that have the outcome of another one of this job."""

    # items in

    @property
    def waiting(self) -> int:
        """How many items have been read, and neither issued nor set aside."""
        loaded = self._loaded
        return len(loaded.digests) - loaded.at if loaded is not None else 0

    @property
    def full(self) -> bool:
        """Whether no more may be set aside."""
        return self._aside >= self._most or self._bytes >= MOST_BYTES

    @property
    def loaded(self) -> Loaded | None:
        """What those were read with."""
        return self._loaded

    def load(self, loaded: Loaded) -> None:
        """Have these dealt with; none may be waiting."""
        assert not self.waiting
        self._loaded = loaded

    def waiting_of(self, task: int) -> bool:
        """Whether any of those that have been read of this task are neither issued nor set aside."""
        return task in self._others or (self.waiting > 0 and self._loaded is not None and self._loaded.task == task)

    def turn_to(self, task: int) -> None:
        """Deal with what was read of this task from now on, and keep what waits of another for later."""
        loaded = self._loaded
        if loaded is None or loaded.task != task:
            if loaded is not None and self.waiting:
                self._others[loaded.task] = loaded
            self._loaded = self._others.pop(task, None)

    def skip(self, most: int) -> int:
        """Pass over up to `most` of those that wait, since they are done already; return how many."""
        count = min(most, self.waiting)
        if count and self._loaded is not None:
            self._loaded.at += count
        return count

    def set_aside(self, most: int) -> int:
        """Of the next `most` items set aside those, up to the first that is to be run; return how many."""
        count = 0
        while count < most and self.waiting and not self.full:
            loaded = self._loaded
            assert loaded is not None
            done = self._follow(loaded) or self._answer(loaded, min(most - count, self._most - self._aside))
            if not done:
                break
            count += done
        return count

    def _follow(self, loaded: Loaded) -> int:
        """Set the next item aside if one like it is under way."""
        at = loaded.at
        digest = loaded.digests[at]
        leader = self._leaders.get(digest) if digest is not None else None
        if leader is None:
            return 0
        chunk = self._set_aside(1, loaded.cut(at, at + 1), loaded)
        self._firsts[leader].followers.append((chunk, loaded.items[at : at + 1]))
        loaded.at += 1
        self._aside += 1
        return 1

    def _set_aside(self, count: int, payload: tuple[ItemKind, Sequence[Buffer]], loaded: Loaded) -> Chunk:
        chunk = self._ledger.set_aside(count, payload, loaded.task, loaded.chunker)
        if loaded.claim is not None and self._ledger.plan is not None:
            self._ledger.plan.endow(chunk, *loaded.claim)
        return chunk

    def _answer(self, loaded: Loaded, most: int) -> int:
        """Set aside what comes next and has a known outcome."""
        at, hits, size = loaded.at, 0, 0
        outcomes: list[bytes] = []
        for position in range(at, min(at + most, len(loaded.digests))):
            outcome = loaded.outcome(position)
            if outcome is None or size >= TOGETHER or loaded.digests[position] in self._leaders:
                break
            outcomes.append(outcome)
            size += len(outcome)
            hits += loaded.digests[position] not in loaded.known
        stop = at + len(outcomes)
        if not outcomes:
            return 0
        chunk = self._set_aside(len(outcomes), ("pickle", ()), loaded)
        loaded.at = stop
        self._aside += len(outcomes)
        marks = list(zip(loaded.digests[at:stop], loaded.marks[at:stop], strict=True))
        self._put(Answer(chunk, loaded.items[at:stop], outcomes, hits, lambda: loaded.cut(at, stop), marks))
        return len(outcomes)

    def _put(self, answer: Answer) -> None:
        """Have this told."""
        self.answers.append(answer)
        self._bytes += answer.size
        self.hits += answer.hits
        self.repeats += len(answer.chunk) - answer.hits

    def take(self, most: int) -> tuple[int, ItemKind, Sequence[Buffer]] | None:
        """Return up to `most` items that are to be run, which the caller issues at once; None if others come first."""
        loaded = self._loaded
        if loaded is None or not self.waiting:
            return None
        start = loaded.at
        index = self._ledger.next - start
        for position in range(start, min(start + most, len(loaded.digests))):
            digest = loaded.digests[position]
            if digest is not None:
                if digest in self._leaders or loaded.outcome(position) is not None:
                    break
                self._lead(index + position, _First(digest, loaded.marks[position]))
            loaded.at += 1
        if loaded.at == start:
            return None
        return loaded.at - start, *loaded.cut(start, loaded.at)

    # of what is about to be sent, where what goes next is chosen

    def leader(self, digest: bytes) -> int | None:
        """Return which item is run for all like it, if one is."""
        return self._leaders.get(digest)

    def lead(self, index: int, digest: bytes, mark: bytes | None) -> None:
        """This item is run for all like it from now on."""
        self._lead(index, _First(digest, mark))

    def follow(self, digest: bytes, chunk: Chunk, items: Sequence[Any]) -> None:
        """The one item of a chunk that was set aside has what comes of its leader."""
        self._firsts[self._leaders[digest]].followers.append((chunk, items))
        self._aside += 1

    def answer(self, answer: Answer) -> None:
        """Have this told, of a chunk that was set aside."""
        self._aside += len(answer.chunk)
        self._put(answer)

    def _lead(self, index: int, first: _First) -> None:
        self._leaders[first.digest] = index
        self._firsts[index] = first

    # outcomes

    def on_receipts(self, receipts: Sequence[Receipt]) -> None:
        """The sink has these; the ledger knows of it already."""
        for receipt in receipts:
            if receipt.again is None:
                self.on_done(receipt.start, receipt.stop, receipt.kept)
            elif receipt.void and not receipt.lane:
                self._run_rest(receipt.start)

    def _run_rest(self, index: int) -> None:
        """What was told was not taken, since a part of it is done: the items from this one on are not."""
        for start, answer in list(self._told.items()):
            if start <= index < answer.chunk.stop:
                del self._told[start]
                self.on_refused(answer, whole=False)

    def on_done(self, start: int, stop: int, kept: Sequence[bytes] = ()) -> None:
        """The items `[start, stop)` are done; `kept` are their outcomes, empty where they are not known."""
        answer = self._told.get(start)
        if answer is not None and stop == answer.chunk.stop:
            del self._told[start]
            self._let_go(answer)
            return
        for n, index in enumerate(range(start, stop)) if self._firsts else ():
            first = self._firsts.pop(index, None)
            if first is not None:
                del self._leaders[first.digest]
                self._settle(first, kept[n] if n < len(kept) else b"")

    def on_held(self, done: Sequence[tuple[int, int]]) -> None:
        """A sink that joins has these ranges: outcomes of some may have been lost on their way here."""
        for start, stop in done:
            for index in [index for index in self._firsts if start <= index < stop]:
                self.on_done(index, index + 1)
            for answer in [a for a in self._told.values() if start <= a.chunk.start and a.chunk.stop <= stop]:
                self.on_done(answer.chunk.start, answer.chunk.stop)

    def _settle(self, first: _First, outcome: bytes) -> None:
        if outcome:
            self.found.append(Found(first.digest, first.mark, outcome))
            for loaded in (self._loaded, *self._others.values()):
                if loaded is not None:
                    loaded.learn(first.digest, outcome)
            for chunk, items in first.followers:
                self._put(Answer(chunk, items, [outcome]))
            return
        while first.followers:
            chunk, _ = first.followers.pop(0)
            self._aside -= 1
            if self._ledger.release(chunk):
                self._lead(chunk.start, first)
                return

    # answers

    def on_told(self, answer: Answer) -> None:
        """It was sent to the sink: its receipt is to come."""
        if self._ledger.is_aside(answer.chunk):
            self._told[answer.chunk.start] = answer
        else:
            self._let_go(answer)  # it is not wanted any more, or its receipt was quicker

    def on_refused(self, answer: Answer, *, whole: bool = True) -> None:
        """It can't be told here, or not as it is: its items are to be run, if it is the `whole` of them that are.

        Others like them have what comes of that.
        """
        chunk = answer.chunk
        self._let_go(answer)
        self.hits -= answer.hits
        self.repeats -= len(chunk) - answer.hits
        if answer.cut is not None:
            chunk.items, chunk.payload = answer.cut()
            chunk.size = sum(map(len, chunk.payload))
        if self._ledger.release(chunk) and whole:
            for index, (digest, mark) in enumerate(answer.marks, chunk.start):
                if digest is not None and digest not in self._leaders:
                    self._lead(index, _First(digest, mark))

    def _let_go(self, answer: Answer) -> None:
        self._aside -= len(answer.chunk)
        self._bytes -= answer.size

    def tell_again(self) -> None:
        """What was told may have been lost."""
        told, self._told = self._told, {}
        self.answers.extend(told.values())

    def check(self) -> None:
        """Assert that who leads is under way, and who follows is set aside."""
        assert len(self._leaders) == len(self._firsts)
        answers = [*self.answers, *self._told.values()]
        aside = sum(len(answer.chunk) for answer in answers)
        for digest, index in self._leaders.items():
            first = self._firsts[index]
            assert first.digest == digest
            assert index < self._ledger.next
            aside += len(first.followers)
        assert aside == self._aside, (aside, self._aside)
        assert sum(answer.size for answer in answers) == self._bytes
