"""Who is here: nodes by lane, joins that wait, and what is remembered of those that are gone. Decides nothing.

An identity is one control connection, a session one process, a lane one membership of it. Lanes are numbered one by
one and a number is never used again; nor by the next ventilator of the job, if that begins at another `base`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from zpipe.core import wire

__all__ = ["LINK", "AnyJoin", "Node", "Roster", "differs", "name_of"]

LINK = 10.0
"""Seconds an admitted node has to connect to its lane; one that died in between leaves no other trace."""

REMEMBERED = 10_000
"""Lost workers of which is remembered who they were, until their slot's next process tells how they ended."""

AnyJoin = wire.Join | wire.SinkJoin


def differs(ours: wire.Versions, theirs: wire.Versions, *, mixed: bool) -> str:
    """Return why a node of these versions can't join, with both named and the mend; empty if it can."""
    if theirs.protocol != ours.protocol:
        return (
            f"it speaks protocol {theirs.protocol} (zpipe {theirs.zpipe}), this ventilator protocol "
            f"{ours.protocol} (zpipe {ours.zpipe}); install the same zpipe on both"
        )
    pairs = (("Python", theirs.python, ours.python), ("cloudpickle", theirs.cloudpickle, ours.cloudpickle))
    for what, a, b in pairs:
        if a != b and not mixed:
            return (
                f"it runs {what} {a}, this ventilator {what} {b}, and pickles may not carry over; use the same "
                f"version, or start the ventilator with --mixed-versions"
            )
    return ""


def name_of(join: AnyJoin) -> str:
    """Return what to call the process that sent a join."""
    if isinstance(join, wire.SinkJoin):
        return f"sink {join.host}/{join.pid}"
    return f"worker {join.host}/{join.pid} slot {join.slot}"


class Node(msgspec.Struct, eq=False):
    """A joined process: `ready` once its links stand, `leaving` once it takes no more."""

    identity: bytes
    join: AnyJoin
    lane: int
    since: float
    ready: bool = False
    leaving: bool = False

    @property
    def name(self) -> str:
        """What to call it."""
        return name_of(self.join)

    @property
    def sink(self) -> wire.SinkJoin | None:
        """Its join, if it is a sink."""
        return self.join if isinstance(self.join, wire.SinkJoin) else None


class Roster:
    """The nodes of one job, on lanes from `base` + 1 on."""

    def __init__(self, base: int = 0) -> None:
        self._nodes: dict[int, Node] = {}
        self._of_session: dict[str, Node] = {}
        self._of_peer: dict[bytes, list[Node]] = {}
        self._unlinked: dict[int, Node] = {}
        self._held: dict[bytes, wire.Join] = {}
        self._turns: dict[str, int] = {}
        self._lost: dict[tuple[str, int], tuple[int, str]] = {}
        self._early: dict[tuple[str, int], wire.Join] = {}
        self._lanes = base

    def __iter__(self) -> Iterator[Node]:
        """Yield the nodes; the roster may change meanwhile."""
        return iter(list(self._nodes.values()))

    def __len__(self) -> int:
        """How many there are."""
        return len(self._nodes)

    def get(self, lane: int) -> Node | None:
        """Return the node of a lane, if it is still here."""
        return self._nodes.get(lane)

    def seat(self, identity: bytes, join: AnyJoin, now: float) -> Node:
        """Give a joined process the next lane."""
        self._lanes += 1
        node = Node(identity, join, self._lanes, now)
        self._nodes[node.lane] = self._unlinked[node.lane] = self._of_session[join.session] = node
        self._of_peer.setdefault(identity, []).append(node)
        return node

    def remove(self, node: Node) -> None:
        """Take a node off its lane."""
        del self._nodes[node.lane], self._of_session[node.join.session]
        self._of_peer[node.identity].remove(node)
        if not self._of_peer[node.identity]:
            del self._of_peer[node.identity]
        self._unlinked.pop(node.lane, None)

    def claim(self, identity: bytes, join: AnyJoin) -> tuple[bool, Node | None]:
        """Return whether a join is news, and the node that its process was until now.

        One of an earlier turn came late, one of a turn that has its lane already is a repetition, or, from elsewhere,
        another process that goes by the same session: a clone.
        """
        if join.turn < self._turns.get(join.session, 0):
            return False, None
        node = self._of_session.get(join.session)
        if node is not None and node.join.turn == join.turn and (node.ready or node.identity == identity):
            return False, node
        self._turns.pop(join.session, None)
        self._turns[join.session] = join.turn
        if len(self._turns) > REMEMBERED:
            del self._turns[next(iter(self._turns))]
        self._held = {i: j for i, j in self._held.items() if j.session != join.session}
        return True, node

    def has_other(self, identity: bytes, session: str) -> bool:
        """Tell whether a connection has brought another process's join, so that one peer can't take all lanes."""
        held = self._held.get(identity)
        if held is not None and held.session != session:
            return True
        return any(node.join.session != session for node in self._of_peer.get(identity, ()))

    # joins that can't be answered yet

    def hold(self, identity: bytes, join: wire.Join, most: int) -> None:
        """Keep a join until `release`, unless there are so many that there is no lane for it; it comes again."""
        if len(self._held) < most or identity in self._held:
            self._held[identity] = join

    def release(self) -> dict[bytes, wire.Join]:
        """Return the joins kept so far, by identity, and keep them no more."""
        held, self._held = self._held, {}
        return held

    # nodes that have not connected to their lane yet

    def linked(self, lane: int) -> None:
        """Whoever has this lane has connected to it: from now on its loss will be noticed."""
        self._unlinked.pop(lane, None)

    def deadline(self) -> float | None:
        """When the next of them is late."""
        if not self._unlinked:
            return None
        return min(node.since + LINK for node in self._unlinked.values())

    def late(self, now: float) -> list[Node]:
        """Return those that are late."""
        return [node for node in self._unlinked.values() if now >= node.since + LINK]

    # workers that were lost

    def remember(self, node: Node) -> None:
        """Keep who was lost, until its slot's next process comes."""
        self._lost[node.join.host, node.join.pid] = (node.lane, node.name)
        if len(self._lost) > REMEMBERED:
            del self._lost[next(iter(self._lost))]

    def predecessor(self, join: wire.Join) -> tuple[int, str]:
        """Return the lane and name of the lost worker whose slot this is, (0, "") if there is none.

        Its loss may not have been noticed yet; then `successor` has this join.
        """
        key = join.host, join.previous
        if (
            join.previous
            and key not in self._lost
            and any((node.join.host, node.join.pid) == key for node in self._nodes.values())
        ):
            self._early[key] = join
            if len(self._early) > REMEMBERED:
                del self._early[next(iter(self._early))]
        return self._lost.pop(key, (0, ""))

    def successor(self, node: Node) -> wire.Join | None:
        """Return the join that has told already how this node, which is lost, had ended."""
        return self._early.pop((node.join.host, node.join.pid), None)

    def check(self) -> None:
        """Assert that every process has one lane at most, and every lane was given."""
        for number, node in self._nodes.items():
            assert number == node.lane <= self._lanes
            assert self._of_session.get(node.join.session) is node, "a session has two lanes"
            assert node in self._of_peer[node.identity]
        assert len(self._nodes) == len(self._of_session) == sum(map(len, self._of_peer.values()))
        assert self._unlinked.keys() <= self._nodes.keys()
