"""Order, width and failures, with an engine that only says what it would do."""

from __future__ import annotations

from collections import deque

import pytest

from pipeline.artifacts import graph
from pipeline.artifacts.executors.pool import shared_out
from pipeline.artifacts.executors.walking import Ended, Lost, Started, ranks, walk, width
from pipeline.artifacts.graph import Unfinished
from pipeline.artifacts.steps import Step, closure
from pipeline.artifacts.store import Execution, Workspace
from pipeline.artifacts.telling import Announced
from pipeline.terminal.errors import ReidpipeError
from tests.pipeline.artifacts.executors import makers  # noqa: F401


def step(value: int, *inputs: Step, name: str = "counted") -> Step:
    return Step(name, {"value": value}, {f"i{n}": source for n, source in enumerate(inputs)})


ROOT = step(0)
CHAIN = [ROOT, one := step(1, ROOT), two := step(2, one), step(3, two)]
FORK = [ROOT, one, other := step(10, ROOT), step(20, one, other)]


class Pretended:
    """Ends the step begun first; what it was asked to begin is in ``order``."""

    def __init__(self, together: int, failing: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        self.together, self.failing = together, failing
        self.at_work: deque[Step] = deque()
        self.order: list[int] = []
        self.most = 0

    def takes(self, step: Step) -> bool:
        return len(self.at_work) < self.together

    def begin(self, step: Step) -> None:
        self.at_work.append(step)
        self.order.append(step.params["value"])
        self.most = max(self.most, len(self.at_work))

    def event(self) -> Started | Lost | Ended | None:
        step = self.at_work.popleft()
        return Ended(step, 1.0, ValueError("no") if step.key in self.failing else None)


def test_width_is_how_many_can_be_made_at_once():
    assert [width([]), width(CHAIN[:1]), width(CHAIN), width(FORK)] == [0, 1, 1, 2]
    assert width([step(n) for n in range(5)]) == 5
    # Inputs of one step may be as deep as they like.
    assert width([*CHAIN, step(99), step(100, CHAIN[-1])]) == 2


def test_inputs_come_first_and_long_chains_before_short_ones():
    short = step(50, ROOT)
    todo = [ROOT, short, *CHAIN[1:]]
    assert [ranks(todo)[s.key] for s in todo] == [0, 3, 1, 2, 4]
    engine = Pretended(2)
    walk(todo, engine, Announced(lambda _: None))
    assert engine.order == [0, 1, 50, 2, 3] and engine.most == 2


def test_one_after_another_is_the_order_they_are_given_in():
    engine = Pretended(1)
    walk([ROOT, step(50, ROOT), *CHAIN[1:]], engine, Announced(lambda _: None))
    assert engine.order == [0, 50, 1, 2, 3] and engine.most == 1


def test_a_failure_stops_what_stands_on_it_alone():
    engine = Pretended(2, {one.key})
    walked = walk([*FORK, two], engine, Announced(lambda _: None))
    assert sorted(engine.order) == [0, 1, 10]
    assert walked.made == [ROOT, other] and [s for s, _ in walked.failed] == [one]


def outcome_of(root, *targets: Step) -> graph.Outcome:
    return graph.attempt(Workspace(root), targets, Execution(), first=(), check=lambda _: None)


def test_what_failed_and_what_was_left_is_told(tmp_path):
    bad = step(7, ROOT, name="mistaken")
    outcome = outcome_of(tmp_path, one, step(8, step(9, bad)))
    assert [s.params["value"] for s in outcome.made] == [0, 1]
    assert [f.step for f in outcome.failed] == [bad] and len(outcome.left) == 2
    told = outcome.told()
    assert told[0].startswith(f"failed mistaken {bad.key[:8]}: found 7; expected another; type it")
    assert told[0].endswith(f"(log {tmp_path}/artifacts/mistaken/{bad.key}/step.log)")
    assert [line.partition(":")[2] for line in told[1:3]] == [
        f" it stands on mistaken {bad.key[:8]}"
    ] * 2
    assert told[3] == "made 2 artifacts, reused 0, failed 1, left 2"
    with pytest.raises(Unfinished) as raised:
        outcome.check()
    assert str(raised.value) == "found 7; expected another; type it"


def test_alone_it_raises_what_it_always_raised(tmp_path):
    with pytest.raises(ReidpipeError) as raised:
        outcome_of(tmp_path, step(8, step(7, ROOT, name="mistaken"))).check()
    assert type(raised.value) is ReidpipeError


def test_a_mistake_of_ours_comes_before_those_of_users(tmp_path):
    outcome = outcome_of(tmp_path, step(7, name="mistaken"), step(8, name="broken"))
    with pytest.raises(ValueError, match="of ours") as raised:
        outcome.check()
    assert "failed mistaken" in raised.value.__notes__[-1]


def test_what_failed_before_is_not_tried_again(tmp_path):
    bad = step(7, name="mistaken")
    seen = []
    outcome = graph.attempt(
        Workspace(tmp_path), [one, step(8, bad)], Execution(), first=[bad], check=seen.append
    )
    assert [f.step for f in seen[0].failed] == [bad] == [f.step for f in outcome.failed]
    assert len(outcome.made) == 2 and len(outcome.left) == 1


class Counted(dict):
    """Inputs that are looked at so many times in all, and no more."""

    looks = 0

    def values(self):
        Counted.looks += 1
        assert Counted.looks < 5_000
        return super().values()

    items = None  # type: ignore[assignment]


def test_a_graph_costs_what_its_steps_do_and_not_its_paths(tmp_path):
    """Sixty layers of two steps that stand on both below: 2**60 paths."""
    layer = [step(0), step(1)]
    for number in range(1, 60):
        layer = [step(2 * number + n, *layer) for n in range(2)]
    for one in closure(layer):
        one.key  # noqa: B018
        object.__setattr__(one, "inputs", Counted(one.inputs))

    class Idle(Workspace):
        def make(self, step, execution):
            if step.params["value"] == 3:
                raise ReidpipeError("found 3; expected another; type it")

    Counted.looks = 0
    outcome = graph.attempt(
        Idle(tmp_path), layer, Execution(threads=1), first=(), check=lambda _: None
    )
    assert len(outcome.made) == 3 and len(outcome.left) == 116
    assert len(outcome.told()) == 118 and 0 < Counted.looks < 3_000


def test_gpus_are_shared_out_or_refused():
    assert shared_out(["0", "1", "2"], 3, 1) == ["0", "1", "2"]
    assert shared_out(["0", "1", "2", "5", "7"], 2, 2) == ["0,1", "2,5"]
    with pytest.raises(ReidpipeError, match="found 3 GPU for 2 jobs .* expected 4, .* --jobs 1$"):
        shared_out(["0", "1", "2"], 2, 2)
