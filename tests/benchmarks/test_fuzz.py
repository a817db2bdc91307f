"""Promise: whatever is predicted, each scorer gives one verdict, the same always, and the authors' where they have one.

Ten thousand made-up predictions a scorer, of which many are meant to break it, are scored twice, a second time in a
process with other hashes, and by the rules as `independent` has them.
"""

import functools
import hashlib
import itertools
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from independent import rubric
from independent_numbers import big_bench_audio
from made_items import SEED, SUBJECTS, subject
from made_predictions import LONG, predictions

from step_audio_r1.benchmarks import BENCHMARKS, Record, score_records

COUNT = 10_000


@functools.cache
def said(name, count=COUNT):
    """(place of the item, prediction)."""
    _, items = subject(name)
    share = -(-count // len(items))
    made = [
        predictions(random.Random(f"{SEED} {name} {place}"), item.question, item.options, share)
        for place, item in enumerate(items)
    ]
    return list(itertools.islice(((place, text) for place, texts in enumerate(made) for text in texts), count))


def verdicts(name, count=COUNT):
    """All that official and robust scorer say of each prediction, as one text each."""
    benchmark, (_, items) = BENCHMARKS[name], subject(name)
    for place, prediction in said(name, count):
        item = items[place]
        read = benchmark.robust(item, prediction) if isinstance(prediction, str) else None
        yield repr((benchmark.official(item, prediction), read, read and benchmark.mapped(item, read)))


def digest(count):
    return hashlib.sha256(
        "".join(v for name in SUBJECTS for v in verdicts(name, count)).encode("utf-8", "replace")
    ).hexdigest()


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_verdict_is_the_same_twice(name):
    first = list(verdicts(name))
    assert len(first) == COUNT and first == list(verdicts(name))
    assert len(set(first)) > 5  # the predictions tell verdicts apart


def test_a_verdict_does_not_depend_on_the_order_of_sets():
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(root)}
    other = subprocess.run(
        [sys.executable, __file__, "5000"], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == digest(5000)


@pytest.mark.parametrize("name", [name for name, (_, _, rule) in SUBJECTS.items() if rule])
def test_the_official_verdict_is_that_of_the_authors_rule_written_again(name):
    rows, items = subject(name)
    rule, official, met = SUBJECTS[name][2], BENCHMARKS[name].official, set()
    for place, prediction in said(name):
        status = official(items[place], prediction).status
        assert status == rule(rows[place], prediction), (rows[place], prediction)
        met.add(status)
    assert {"correct", "wrong"} <= met


def test_the_matcher_of_big_bench_audio_is_its_description_written_again():
    _, items = subject("bigbench_audio")
    read = BENCHMARKS["bigbench_audio"].robust
    for place, text in said("bigbench_audio"):
        if isinstance(text, str) and "</think>" not in text.lower():
            expected = big_bench_audio(items[place].task, text)
            assert read(items[place], text).value == expected, (items[place].task, text)


@pytest.mark.parametrize("name", [name for name in SUBJECTS if name != "mmau_pro"])
def test_what_is_read_does_not_depend_on_the_gold_answer(name):
    robust, (_, items), (_, others) = BENCHMARKS[name].robust, subject(name), subject(name, gold=1)
    assert [item.gold for item in items] != [other.gold for other in others]
    for place, text in said(name):
        if isinstance(text, str):
            first, second = robust(items[place], text), robust(others[place], text)
            assert (first.value, first.rule, first.flags) == (second.value, second.rule, second.flags), text


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_thinking_is_never_read(name):
    benchmark, (_, items) = BENCHMARKS[name], subject(name)
    texts = [(items[place], text) for place, text in said(name)[::10] if isinstance(text, str)]
    kept = ("answer", "extracted", "rule", "robust", "official", "mapped", "official_mapped", "flags")
    scored = []
    for thought in ("Hm.", "The answer is: {gold}. #### {gold}\n\nFinal Answer: A. It is invalid, no."):
        pairs = [
            (item, Record(item.id, f"<think>\n{thought.format(gold=item.gold)}\n</think>\n{t}")) for item, t in texts
        ]
        scored.append([{key: row[key] for key in kept} for row in score_records(benchmark, pairs)])
    assert scored[0] == scored[1]


@pytest.mark.parametrize("name", SUBJECTS)
def test_long_texts_take_no_time(name):
    """A hundred thousand characters each: what is read in their square would take minutes."""
    benchmark, (_, items) = BENCHMARKS[name], subject(name)
    shared = name != "mmau" and benchmark.robust is BENCHMARKS["mmau"].robust
    scorers = [benchmark.official] if shared else [benchmark.official, benchmark.robust]
    slow = {}
    for number, run in enumerate(LONG):
        text = (run * 100_000)[:100_000] + ("", " dog")[number % 2]
        for scorer in scorers:
            started = time.process_time()
            scorer(items[number % len(items)], text)
            if (took := time.process_time() - started) > 1:
                slow[run] = round(took, 1)
    assert not slow


def test_rubrics_are_the_mean_of_the_middle_three_of_five():
    rng = random.Random(SEED)
    judged, (_, items) = BENCHMARKS["mmar"].judged, subject("mmar")
    item = items[0].__class__(**{**vars(items[0]), "row": {**items[0].row, "thinking": "x", "cue": [], "rubric": [{}]}})
    for _ in range(1000):
        points = [[rng.randint(0, 1) for _ in range(5)] for _ in range(5)]
        score = judged.score(item, None, [sum(some) / 5 for some in points])
        assert score.value == pytest.approx(rubric(points), abs=1e-12)


if __name__ == "__main__":
    print(digest(int(sys.argv[1])))
