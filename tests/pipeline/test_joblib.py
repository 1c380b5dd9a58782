"""joblib's backend: results, exceptions and generators as with joblib's own, in zpipe's workers."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from pipeline import chores
from process.tools import alive, wait_until

import zpipe

joblib = pytest.importorskip("joblib")
import zpipe.joblib  # noqa: E402 - where there is a joblib

delayed, Parallel = joblib.delayed, joblib.Parallel


@pytest.fixture(scope="module", autouse=True)
def kept(mark: str) -> Iterator[None]:
    """The pipeline that is kept for the process ends with this file."""
    yield
    zpipe.joblib.shutdown()


@pytest.fixture(autouse=True)
def backend() -> Iterator[None]:
    """All of these tests use it."""
    with joblib.parallel_config(backend="zpipe", n_jobs=2):
        yield


def test_results_are_those_of_a_loop() -> None:
    """Many tiny calls, lambdas, keyword arguments, none at all, batches of the caller's own size."""
    assert Parallel()(delayed(chores.double)(n) for n in range(5000)) == list(range(0, 10_000, 2))
    assert Parallel()(delayed(lambda n, *, by: n * by)(n, by=3) for n in range(9)) == list(range(0, 27, 3))
    assert Parallel(batch_size=7, pre_dispatch="all")(delayed(chores.double)(n) for n in range(99))[98] == 196
    assert Parallel()([]) == []
    assert Parallel(n_jobs=1)(delayed(os.getpid)() for _ in range(2)) == [os.getpid()] * 2


def test_results_can_be_generated() -> None:
    """In order or as they come, from endless calls; one that is left behind drops the rest."""
    assert list(Parallel(return_as="generator")(delayed(chores.double)(n) for n in range(500))) == list(
        range(0, 1000, 2)
    )
    unordered = Parallel(return_as="generator_unordered")(delayed(chores.double)(n) for n in range(500))
    assert sorted(unordered) == list(range(0, 1000, 2))
    endless = Parallel(return_as="generator")(delayed(chores.double)(n) for n in itertools.count())
    assert [next(endless) for _ in range(50)] == list(range(0, 100, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib's, of results that nobody took
        endless.close()
    one, other = (Parallel(return_as="generator")(delayed(abs)(n) for n in range(50)) for _ in range(2))
    assert list(zip(one, other, strict=True)) == [(n, n) for n in range(50)]


def test_as_many_workers_as_jobs_and_the_same_again(tmp_path: Path) -> None:
    """`n_jobs` processes work at once; the next call finds them there."""
    met = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        met.append(set(Parallel(n_jobs=2)(delayed(chores.meet)(str(folder), 2) for _ in range(2))))
    assert len(met[0]) == 2
    assert met[0] == met[1]
    assert os.getpid() not in met[0]
    assert joblib.effective_n_jobs(-1) == joblib.cpu_count()
    with pytest.raises(ValueError, match="no meaning"):
        Parallel(n_jobs=0)(delayed(abs)(n) for n in range(2))


def test_an_exception_ends_it_and_what_runs(tmp_path: Path, gate: str) -> None:
    """It is the call's own, with the worker's traceback; a call that still runs is killed, and the next ones work."""
    notes = tmp_path / "notes"

    def either(item: int) -> None:
        if item == 0:
            chores.note(str(notes), os.getpid())
            chores.held(gate)
        while not (notes.exists() and notes.read_text()):
            pass
        raise KeyError("three is not wanted")

    with pytest.raises(KeyError, match="three") as caught:
        Parallel()(delayed(either)(item) for item in range(2))
    assert isinstance(caught.value.__cause__, zpipe.RemoteTraceback)
    wait_until(lambda: not alive(int(notes.read_text())), "the end of a worker")
    assert Parallel()(delayed(chores.double)(n) for n in range(9)) == list(range(0, 18, 2))


def test_a_managed_one_goes_on_after_an_exception() -> None:
    """`with Parallel()` can be called again and again."""
    with Parallel() as parallel:
        for _ in range(2):
            assert parallel(delayed(chores.double)(n) for n in range(9)) == list(range(0, 18, 2))
            with pytest.raises(KeyError):
                parallel(delayed(chores.fail_on_three)(n) for n in (3,))


def test_calls_may_nest() -> None:
    """Inside a worker there are threads, or one call after another: whatever is asked for, no more processes."""

    def nest(count: int) -> tuple[list[int], set[int], str | None]:
        inner = joblib.Parallel(n_jobs=2)(joblib.delayed(chores.double)(n) for n in range(count))
        named = joblib.Parallel(n_jobs=2, backend="zpipe")(joblib.delayed(os.getpid)() for n in range(count))
        return inner, {*named} - {os.getpid()}, os.environ.get("OMP_NUM_THREADS")

    threads = str(max(joblib.cpu_count() // 2, 1))
    for inner, elsewhere, limit in Parallel()(delayed(nest)(5) for _ in range(4)):
        assert inner == [0, 2, 4, 6, 8]
        assert elsewhere == set()
        assert limit == os.environ.get("OMP_NUM_THREADS", threads)


def test_a_pipeline_of_the_scripts_own(tmp_path: Path) -> None:
    """Its workers are used, no more at once than `n_jobs`; and its results may be what the calls are made of."""

    def crowd(item: int) -> int:
        mine = tmp_path / f"{os.getpid()}"
        mine.touch()
        chores.nap(item)
        there = len(list(tmp_path.iterdir()))
        mine.unlink()
        return there

    with zpipe.Pipeline(3, initializer=chores.remember, initargs=(str(tmp_path.parent / "notes"), "kept")) as pipe:
        with joblib.parallel_config(backend="zpipe", pipeline=pipe, n_jobs=2):
            assert max(Parallel(batch_size=1)(delayed(crowd)(n) for n in range(200))) <= 2
            assert {value for value, _, _ in Parallel()(delayed(chores.remembered)(n) for n in range(9))} == {"kept"}
            assert Parallel()(delayed(abs)(n) for n in pipe.map(chores.double, range(300))) == list(range(0, 600, 2))
            with pytest.raises(KeyError):
                Parallel()(delayed(chores.fail_on_three)(n) for n in range(100))
            with pytest.raises(AssertionError, match="inner_max_num_threads"):
                joblib.parallel_config(backend="zpipe", pipeline=pipe, inner_max_num_threads=1)
        with joblib.parallel_config(backend="zpipe", pipeline=pipe):
            assert joblib.effective_n_jobs() == 3
        assert pipe.submit(chores.double, 4).result() == 8
    with (
        joblib.parallel_config(backend="zpipe", pipeline=pipe, n_jobs=2),
        pytest.raises(RuntimeError, match="shutdown"),
    ):
        Parallel()(delayed(abs)(n) for n in range(9))


def test_an_initializer_runs_in_each_worker(tmp_path: Path) -> None:
    """As joblib 1.6 has it: the same one finds the same workers, another gets others; a pipeline has its own."""
    given = {"initializer": chores.remember, "initargs": (str(tmp_path / "notes"), "one")}
    first = Parallel(**given)(delayed(chores.remembered)(n) for n in range(9))
    with joblib.parallel_config(backend="zpipe", n_jobs=2, **given):
        again = Parallel()(delayed(chores.remembered)(n) for n in range(9))
    assert {value for value, _, _ in [*first, *again]} == {"one"}
    assert len((tmp_path / "notes").read_text().split()) <= 2
    given["initargs"] = (str(tmp_path / "notes"), "other")
    other = Parallel(**given)(delayed(chores.remembered)(n) for n in range(9))
    assert {value for value, _, _ in other} == {"other"}
    with zpipe.Pipeline(2) as pipe, pytest.raises(ValueError, match="of your own"):
        joblib.parallel_config(backend="zpipe", pipeline=pipe, **given)
    with zpipe.Pipeline(2) as pipe, joblib.parallel_config(backend="zpipe", pipeline=pipe):
        with pytest.raises(ValueError, match="of your own"):
            Parallel(**given)(delayed(abs)(n) for n in range(9))
        assert Parallel()(delayed(abs)(n) for n in range(3)) == [0, 1, 2]


def test_scikit_learn_runs_on_it() -> None:
    """Scores of a nested forest and of a grid search are those of one process."""
    pytest.importorskip("sklearn")
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_val_score

    features, labels = make_classification(120, random_state=0)

    def scores(jobs: int) -> list[list[float]]:
        forest = RandomForestClassifier(4, random_state=0, n_jobs=2)
        grid = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=3, n_jobs=jobs).fit(features, labels)
        return [
            cross_val_score(forest, features, labels, cv=3, n_jobs=jobs).tolist(),
            grid.cv_results_["mean_test_score"].tolist(),
        ]

    assert scores(2) == scores(1)
