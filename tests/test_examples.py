"""The examples, run as their README files say, against outside tools and plain single-process twins."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import itertools
import json
import math
import os
import re
import shutil
import sqlite3
import string
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import ModuleType
from urllib.parse import urldefrag, urljoin

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
CHECKSUM = f"{EXAMPLES}/checksum/checksum.py:checksum"
CRACK = f"{EXAMPLES}/hashsum_cracker/crack.py"
WORDCOUNT = f"{EXAMPLES}/wordcount/wordcount.py"
LIBRARY = Path(sysconfig.get_path("stdlib"))
HASHSUM = "f8e966d1e207d02c44511a58dccff2f5429e9a3b"


def zpipe(*args: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run `zpipe run`; return what it printed, and its status."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ZPIPE_", "HASHSUM", "LENGTH"))}
    command = [sys.executable, "-m", "zpipe", "run", *args]
    return subprocess.run(command, cwd=cwd, env=env | variables, capture_output=True, timeout=300, check=False)


def python(script: str, *args: object, status: int = 0) -> str:
    """Run a script of the examples; return what it printed. Its status has to be `status`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ZPIPE_")}
    command = [sys.executable, str(EXAMPLES / script), *map(str, args)]
    run = subprocess.run(
        command, env=env | {"no_proxy": "*"}, capture_output=True, encoding="utf-8", timeout=300, check=False
    )
    assert run.returncode == status, run.stderr
    return run.stdout


def shell(script: str, cwd: Path) -> bytes:
    """Return what outside tools print."""
    env = os.environ | {"LC_ALL": "C"}
    return subprocess.run(["sh", "-c", script], cwd=cwd, env=env, capture_output=True, timeout=300, check=True).stdout


def module(path: str) -> ModuleType:
    """Return an example's file as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{Path(path).stem}", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree of files, some with odd names or odd contents."""
    root = tmp_path / "tree"
    texts = {
        "plain.txt": b"The cat and the hat.\n",
        "empty.txt": b"",
        "two words.txt": b"one TWO two",
        "deep/er/still.txt": b"don't -- stop_here 3x x3\r\nCaf\xc3\xa9 \xff\xfe NA\xcfVE\0the\n",
        "quote'n\"$HOME.txt": b"$HOME the `date`\n",
        "back\\slash.txt": b"a\\b",
        "new\nline.txt": b"line\nline\n",
        "large.txt": b"spam and eggs and " * 200_000,
    }
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    (root / os.fsdecode(b"latin-\xe9.txt")).write_bytes(b"x")
    return root


needs_tools = pytest.mark.skipif(
    sys.platform != "linux" or any(shutil.which(tool) is None for tool in ("sha256sum", "find", "xargs", "grep")),
    reason="no GNU tools",
)


@needs_tools
def test_checksum_says_what_sha256sum_says(tree: Path) -> None:
    """Every line is sha256sum's, whatever the file's name and contents are."""
    run = zpipe(CHECKSUM, "--glob", "**/*.txt", "--raw", cwd=tree)
    assert (run.returncode, sorted(run.stdout.splitlines())) == (
        0,
        sorted(shell("find . -type f -printf '%P\\0' | xargs -0 sha256sum", tree).splitlines()),
    ), run.stderr


@needs_tools
def test_checksum_of_pythons_own_library() -> None:
    """The real job of the README, on a third: the files are all there, each with the sum that sha256sum gives it."""
    run = zpipe(CHECKSUM, "--glob", "[c-l]*/**/*.py", "--raw", cwd=LIBRARY)
    found = "find -L [c-l]*/ -type f -name '*.py' -not -path '*/.*' -print0"
    expected = sorted(shell(f"{found} | xargs -0 sha256sum", LIBRARY).splitlines())
    assert run.returncode == 0, run.stderr
    assert len(expected) > 100
    assert sorted(run.stdout.splitlines()) == expected


def test_checksum_of_a_file_that_went_fails_alone(tree: Path) -> None:
    """A file that can't be read is one failed item, and the others are done."""
    names = f"{tree}/plain.txt\0{tree}/gone.txt\0{tree}/empty.txt\0"
    (tree / "names").write_text(names)
    run = zpipe(CHECKSUM, "--input", "names", "-0", "--raw", cwd=tree)
    assert run.returncode == 1
    assert len(run.stdout.splitlines()) == 2
    assert b"gone.txt" in run.stderr


def test_ranges_are_all_variations_once() -> None:
    """The ranges spell every word of up to three letters, in order, and number those of up to four."""
    crack = module(CRACK)
    words = [
        word.decode()
        for _, length, first, last in crack.ranges()
        if length <= 3
        for word in crack.words(length, first, last)
    ]
    assert words == ["".join(word) for n in (1, 2, 3) for word in itertools.product(string.ascii_lowercase, repeat=n)]
    fours = [(first, last) for _, length, first, last in crack.ranges() if length == 4]
    assert len(words) + sum(last - first for first, last in fours) == 475_254
    assert [next(crack.words(4, 0, 1)), next(crack.words(4, 26**4 - 1, 26**4))] == [b"aaaa", b"zzzz"]


def test_cracker_finds_what_a_plain_loop_finds() -> None:
    """The word is the one that trying all words in one process finds, and it is all that is printed."""
    letters = string.ascii_lowercase
    words = ("".join(word) for n in (1, 2, 3, 4) for word in itertools.product(letters, repeat=n))
    found = next(word for word in words if hashlib.sha1(word.encode()).hexdigest() == HASHSUM)
    run = zpipe(f"{CRACK}:attempt", "--source", f"{CRACK}:ranges", "--first", "--raw")
    assert (run.returncode, run.stdout.decode()) == (0, f"{found}\n"), run.stderr


def test_cracker_stops_when_it_has_found() -> None:
    """Of the 18,981 ranges of up to six letters, a word of four letters needs few: minutes of work are not done."""
    hashsum = hashlib.sha1(b"pipe").hexdigest()
    run = zpipe(
        f"{CRACK}:attempt",
        "--source",
        f"{CRACK}:ranges",
        "--first",
        "--raw",
        "--json",
        "-q",
        HASHSUM=hashsum,
        LENGTH="6",
    )
    assert (run.returncode, run.stdout) == (0, b"pipe\n"), run.stderr
    summary = json.loads(run.stderr)
    assert summary["hit"] == 2 + 1 + string.ascii_lowercase.index("p")
    assert summary["done"] < 5_000


def test_cracker_that_finds_nothing_prints_nothing() -> None:
    """A word that is longer than asked for is not found: no output, and a job that is done."""
    hashsum = hashlib.sha1(b"pipes").hexdigest()
    run = zpipe(f"{CRACK}:attempt", "--source", f"{CRACK}:ranges", "--first", "--raw", HASHSUM=hashsum, LENGTH="3")
    assert (run.returncode, run.stdout) == (0, b""), run.stderr


@needs_tools
def test_wordcount_says_what_grep_says(tree: Path) -> None:
    """The counts are those of the words that grep finds."""
    run = zpipe(f"{WORDCOUNT}:count", "--glob", "**/*.txt", "--reduce", f"{WORDCOUNT}:merge", cwd=tree)
    words = shell("find . -type f -print0 | xargs -0 grep -aohE '[A-Za-z]+'", tree).lower().decode().split()
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == Counter(words)
    assert len(words) > 600_000


def test_wordcount_of_the_library_is_its_plain_twins(tmp_path: Path) -> None:
    """On real text the single-process twin agrees, and prints the most frequent words."""
    pattern, counts = f"{LIBRARY}/[c-j]*/*.py", tmp_path / "words.json"
    run = zpipe(
        f"{WORDCOUNT}:count", "--glob", pattern, "--reduce", f"{WORDCOUNT}:merge", "--output", str(counts), "--ordered"
    )
    assert run.returncode == 0, run.stderr
    twin = [sys.executable, str(EXAMPLES / "wordcount" / "plain.py"), pattern, str(counts)]
    plain = subprocess.run(twin, capture_output=True, timeout=300, check=False)
    assert plain.returncode == 0, plain.stderr
    assert re.search(rb"[\d,]+  self\n", plain.stdout)


def test_the_plain_twin_tells_a_difference(tree: Path) -> None:
    """Counts that are not the same end the twin with status 1."""
    (tree / "words.json").write_text('{"the": 1}')
    twin = [sys.executable, str(EXAMPLES / "wordcount" / "plain.py"), f"{tree}/plain.txt", f"{tree}/words.json"]
    plain = subprocess.run(twin, capture_output=True, timeout=300, check=False)
    assert plain.returncode == 1
    assert b"other counts" in plain.stderr


def test_orders_are_worth_what_one_loop_says(tmp_path: Path) -> None:
    """Three stages, grouped: the same sums as the twin's, from the command and from the script; a wrong one is told."""
    orders, written, etl = tmp_path / "orders.txt", tmp_path / "worth.jsonl", f"{EXAMPLES}/etl/etl.py"
    orders.write_text(python("etl/orders.py", 2000))
    stages = [f"{etl}:parse", "--then", f"{etl}:enrich", "--then", f"{etl}:convert,workers=1"]
    fold = ["--group-by", "country", "--reduce", f"{etl}:add", "--initial", "0", "--journal", str(tmp_path / "j")]
    run = zpipe(*stages, "--input", str(orders), *fold, "--output", str(written))
    assert run.returncode == 0, run.stderr
    assert python("etl/plain.py", orders, written).count("\n") == 5
    found = {record["key"]: record["value"] for record in map(json.loads, written.read_text().splitlines())}
    assert json.loads(python("etl/script.py", orders)) == found
    written.write_text('{"key": "AT", "value": 1}\n')
    python("etl/plain.py", orders, written, status=1)


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("joblib", "sklearn")), reason="no joblib or no scikit-learn"
)
def test_sweep_finds_what_one_process_finds() -> None:
    """Through zpipe the search has the scores of one process, to the last digit, and the same best parameters."""
    scores = python("sweep/sweep.py")
    assert scores == python("sweep/sweep.py", "sequential")
    assert len(scores.splitlines()) == 9 + 1
    best, _, score = scores.splitlines()[-1].removeprefix("best: ").partition(" scores ")
    assert best == "{'C': 1.0, 'gamma': 0.001}"
    assert float(score) > 0.9


def test_thumbnails_are_those_of_one_process(tmp_path: Path) -> None:
    """Each image has its thumbnail, with the pixels that its twin gets; the twin tells a missing and a changed one."""
    pillow = pytest.importorskip("PIL.Image", reason="no Pillow")
    images, thumbnails = tmp_path / "images", tmp_path / "thumbnails"
    python("thumbnails/images.py", images, 12)
    *lines, last = python("thumbnails/thumbnails.py", images, thumbnails).splitlines()
    assert last == f"12 thumbnails in {thumbnails}"
    sizes = {}
    for path in thumbnails.iterdir():
        with pillow.open(path) as picture:
            sizes[path.name] = picture.size
    assert sorted(lines) == sorted(f"{name}: {width} x {height}" for name, (width, height) in sizes.items())
    assert all(max(size) == 128 for size in sizes.values())
    python("thumbnails/plain.py", images, thumbnails)
    shutil.copy(thumbnails / "0001.png", thumbnails / "0002.png")
    python("thumbnails/plain.py", images, thumbnails, status=1)
    python("thumbnails/thumbnails.py", images, thumbnails)
    (thumbnails / "0003.png").unlink()
    python("thumbnails/plain.py", images, thumbnails, status=1)


def sales(path: Path) -> tuple[list[tuple[str, str, str, str]], list[int]]:
    """Return the rows of a CSV that are right, and the lines that the wrong ones begin in."""
    right, wrong = [], []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        line = reader.line_num + 1
        for row in reader:
            if len(row) == 4 and row[0] and row[1] != "2023-02-30" and re.fullmatch(r"-?\d+\.\d\d", row[3]):
                right.append((row[0], row[1], row[2], row[3]))
            else:
                wrong.append(line)
            line = reader.line_num + 1
    return right, wrong


def test_csv_in_sqlite_is_what_the_csv_module_reads(tmp_path: Path) -> None:
    """The table holds the right rows, each once, and the wrong ones are listed with their lines; the twin agrees."""
    source, target = tmp_path / "sales.csv", tmp_path / "sales.db"
    python("csv_to_sqlite/rows.py", 20_000, source)
    python("csv_to_sqlite/csv_to_sqlite.py", source, target)
    right, wrong = sales(source)
    with closing(sqlite3.connect(target)) as base:
        found = base.execute("SELECT number, day, shop, cents FROM sales ORDER BY number").fetchall()
        errors = [error for (error,) in base.execute("SELECT error FROM wrong")]
    assert found == [(int(number), day, shop, round(float(amount) * 100)) for number, day, shop, amount in right]
    assert sorted(int(re.match(r"line (\d+): ", error)[1]) for error in errors) == wrong
    assert len(right) + len(wrong) == 20_000
    assert len(wrong) > 20
    assert len(python("csv_to_sqlite/plain.py", source, target).splitlines()) == 7
    with closing(sqlite3.connect(target)) as base, base:
        base.execute("UPDATE sales SET cents = cents + 1 WHERE number = (SELECT max(number) FROM sales)")
    python("csv_to_sqlite/plain.py", source, target, status=1)


def test_records_are_the_whole_text(tmp_path: Path) -> None:
    """Records end where the csv module ends them, with their first lines, and a quote left open ends with the file."""
    example = module(f"{EXAMPLES}/csv_to_sqlite/csv_to_sqlite.py")
    path = tmp_path / "odd.csv"
    path.write_bytes(b'a,b\r\n1,"x\n\n""y"\r\n2,z\n3,"open\nto the end')
    with path.open(newline="") as file:
        records = list(example.records(file))
    assert [line for line, _ in records] == [1, 2, 5, 6]
    assert "".join(text for _, text in records).encode() == path.read_bytes()


def test_pi_is_known_as_well_as_it_says() -> None:
    """The estimate is near, no seed counts twice, their hits are those of a plain loop, and none more was needed."""
    example = module(f"{EXAMPLES}/pi/pi.py")
    found = json.loads(python("pi/pi.py", "0.004", "--json"))
    seeds, hits = found["seeds"], found["hits"]
    assert len(seeds) == len(set(seeds))
    assert hits == sum(example.throw(seed)[1] for seed in seeds)
    assert found["pi"] == 4 * hits / (len(seeds) * example.THROWS)
    assert found["within"] <= 0.004
    assert abs(found["pi"] - math.pi) < 3 * found["within"]
    fewer = hits - example.throw(seeds[-1])[1]
    assert example.interval(fewer, (len(seeds) - 1) * example.THROWS) > 0.004


def plain_crawl(start: str) -> list[str]:
    """Return the lines of a crawl, one page after the other."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    levels, pages = {start: 0}, [start]
    lines = []
    for url in pages:
        try:
            with opener.open(url, timeout=300) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, ""
        lines.append(f"{levels[url]} {status} {url}")
        for link in re.findall(r'href="(.*?)"', text):
            other = urldefrag(urljoin(url, link)).url
            if other.startswith(start) and other not in levels:
                levels[other] = levels[url] + 1
                pages.append(other)
    return lines


def test_fetch_asks_for_each_page_once() -> None:
    """All pages are found, each as near and with the status that a plain crawl finds, and asked for exactly once."""
    pages = module(f"{EXAMPLES}/fetch/pages.py")
    with pages.serving(60) as (url, requests):
        lines = python("fetch/fetch.py", url).splitlines()
        asked = sorted(requests)
        expected = plain_crawl(url)
    assert sorted(lines) == sorted(expected)
    assert len(expected) == 60 + 2
    assert asked == sorted(f"/{line.split(url)[1]}" for line in expected)


def test_fetch_checks_itself() -> None:
    """Without an address it serves a site of its own, and has compared what the server was asked for."""
    assert len(python("fetch/fetch.py").splitlines()) == 100 + 2


def test_calls_counts_what_the_service_saw() -> None:
    """Each call was made once, those that the service refused twice, and never too many at a time."""
    assert python("calls/calls.py") == "200 answers, 220 calls, at most 20 at a time\n"


def test_limits_are_kept_as_the_service_saw_it() -> None:
    """The rate, the time to live and the cache: the example has compared what it did with what the service counted."""
    assert python("calls/limits.py").splitlines() == [
        "30 answers at 40 a second",
        "60 calls, each made in time or not at all",
        "60 answers, 40 calls, 20 from the cache",
    ]


def test_the_nightly_feed_archives_each_file_once() -> None:
    """Fed by the clock until it is interrupted; the example has looked into all archives."""
    assert python("nightly/check.py") == "30 files, each in one archive\n"


def test_a_mixed_fleet_has_each_item_where_it_can_run() -> None:
    """The example has compared what each item required with what its worker had."""
    assert python("fleet/fleet.py").startswith("80 items: ")
