"""What a sink elsewhere does with results that are ahead of the word that their items were issued."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zpipe.core.collector import Collector
from zpipe.core.horizon import Horizon
from zpipe.core.wire import Result


def result(start: int, stop: int) -> Result:
    """A result of these items."""
    return Result("job", 1, start, stop, 1, 0.1)


def make(most: int = 1 << 20) -> tuple[Collector, Horizon]:
    """A collector that has to be told."""
    collector = Collector()
    collector.on_job("job", {})
    collector.horizon = horizon = Horizon(most)
    return collector, horizon


def test_what_comes_ahead_of_the_word_waits_for_it() -> None:
    """It neither counts nor is lost, and nobody is told that it is here."""
    collector, horizon = make()
    assert collector.on_result(result(0, 3), [b"x"], 1) == ()
    assert (collector.counted, collector.take_receipts(), horizon.take_doubt()) == (0, [], 1)
    (early,) = collector.on_issued(3)
    assert collector.on_result(early.result, early.payload, early.size) == ((result(0, 3), [b"x"]),)
    assert (collector.counted, collector.strays) == (3, 0)
    collector.check()


def test_only_an_answer_says_that_something_was_never_issued() -> None:
    """A word that was not asked for may be older than the result; so may be the answer to an earlier question."""
    collector, horizon = make()
    collector.on_result(result(5, 8), [b"x"], 1)
    assert horizon.take_doubt() == 1
    collector.on_result(result(6, 9), [b"x"], 1)
    assert horizon.take_doubt() == 0
    assert collector.on_issued(4) == []
    assert (collector.strays, horizon.full) == (0, False)
    assert collector.on_issued(5, 1) == []
    assert collector.strays == 1
    assert horizon.take_doubt() == 2
    assert [early.result for early in collector.on_issued(9, 2)] == [result(6, 9)]
    assert (collector.strays, horizon.take_doubt(again=True)) == (1, 0)
    collector.check()


def test_a_question_that_may_be_lost_is_asked_again() -> None:
    """Until it is answered; what nobody asked is no answer."""
    collector, horizon = make()
    collector.on_result(result(5, 8), [b"x"], 1)
    assert [horizon.take_doubt(again=True) for _ in range(3)] == [1, 1, 1]
    collector.on_issued(0, 7)
    assert collector.strays == 0
    collector.on_issued(0, 1)
    assert (collector.strays, horizon.take_doubt(again=True)) == (1, 0)


def test_what_is_held_is_bounded() -> None:
    """Nothing more is to be taken while it is too much; the answer makes room. Another job has none of it."""
    collector, horizon = make(most=10_000)
    for start in range(20):
        collector.on_result(result(start, start + 1), [b"x"], 1)
    assert horizon.full
    horizon.take_doubt()
    assert len(collector.on_issued(12, 1)) == 12
    assert (horizon.full, collector.strays) == (False, 8)
    collector.on_result(result(30, 31), [b"x"] * 5, 20_000)
    assert horizon.full
    collector.on_job("other", {})
    assert (horizon.full, horizon.known) == (False, 0)
    collector.check()


class Story:
    """A ventilator that tells how far it has issued, a sink that asks, and results that come as they please."""

    def __init__(self) -> None:
        self.collector, self.horizon = make()
        self.issued = 0
        self.fair: list[Result] = []
        self.words = [(0, 0)]
        self.asked: list[int] = []

    def take(self, what: Result) -> None:
        """A result comes."""
        for counted, _ in self.collector.on_result(what, [b"x"], 1):
            assert counted.stop <= self.issued

    def hear(self, items: int, doubt: int) -> None:
        """A word comes."""
        for early in self.collector.on_issued(items, doubt):
            self.take(early.result)

    def issue(self, number: int) -> None:
        """So many more items are issued."""
        self.fair.append(result(self.issued, self.issued + number + 1))
        self.issued += number + 1
        self.words.append((self.issued, 0))

    def result(self, number: int) -> None:
        """A result of theirs comes."""
        if self.fair:
            self.take(self.fair.pop(number % len(self.fair)))

    def forge(self, number: int) -> None:
        """One comes that is nobody's."""
        self.take(result(self.issued + number, self.issued + number + 2))

    def ask(self, number: int) -> None:
        """The sink may ask."""
        self.asked += filter(None, [self.horizon.take_doubt(again=number > 5)])

    def word(self, number: int) -> None:
        """It hears some word that was under way, an old one perhaps."""
        self.hear(*self.words[number % len(self.words)])

    def answer(self, _: int) -> None:
        """It hears an answer."""
        if self.asked:
            self.hear(self.issued, self.asked.pop(0))


@given(st.lists(st.tuples(st.sampled_from(["issue", "result", "forge", "ask", "word", "answer"]), st.integers(0, 9))))
def test_all_that_was_issued_counts_and_nothing_else(steps: list[tuple[str, int]]) -> None:
    """However words, questions and results come; whoever tells of too few does no harm."""
    story = Story()
    for step, number in steps:
        getattr(story, step)(number)
        story.collector.check()
    while story.fair:
        story.result(0)
    for _ in range(3):
        story.hear(story.issued, story.horizon.take_doubt(again=True))
    done = story.collector.done
    assert not story.issued or story.collector.duplicates or done.covers(0, story.issued)
    assert not story.horizon._held
