"""Promise: RLVR trains on the questions that its strategy chooses, drawn by weight and without repetition."""

import collections
import dataclasses
import shutil
from types import SimpleNamespace

import pytest

from configs import quickstart, rlvr
from step_audio_r1.data.store import Dataset
from step_audio_r1.data.world.examples import examples, vocabulary
from step_audio_r1.errors import BadInput
from step_audio_r1.files import read_json, read_jsonl
from step_audio_r1.pipeline import selection
from step_audio_r1.pipeline.config import run_config
from step_audio_r1.pipeline.selection import Pool, check_sandbox, draw_prompts, prompt_pools
from step_audio_r1.pipeline.stage_config import RLVRStage
from step_audio_r1.rewards import RewardConfig
from step_audio_r1.rl import PPOConfig
from step_audio_r1.rollout import SamplingConfig
from step_audio_r1.text import word_level_tokenizer
from tests.world_fakes import Store, rollout_of

TOKENIZER = word_level_tokenizer(vocabulary())
QUESTIONS = list(examples("questions", "train", 60))
SOURCES = {"world:questions": QUESTIONS, "world:text_percepts": list(examples("text_percepts", "train", 20))}
GOLD = {e.id: e.answer for pool in SOURCES.values() for e in pool}
STAGE = RLVRStage(
    kind="rlvr",
    iterations=1,
    prompts=8,
    samples=2,
    sources={"world:questions": 0.75, "world:text_percepts": 0.25},
    sampling=SamplingConfig(),
    ppo=PPOConfig(),
    reward=RewardConfig(),
    candidates=40,
    select_from=("world:questions",),
    pass_samples=4,
    pass_range=(1, 3),
)


class Engine:
    """Answers the i-th sample of a question right if i is below the last digit of the question's number."""

    def __init__(self):
        self.calls = 0

    def decode_params(self, params):
        return params

    def generate(self, params, prompts, samples, sampling, seed):
        self.calls += 1
        rows = []
        for prompt in prompts:
            gold = GOLD[prompt.id]
            for sample in range(samples):
                answer = gold if sample < int(prompt.id[-1]) else "hear"
                rows.append([*TOKENIZER.encode(f"hear\n</think>\n{answer}"), TOKENIZER.eot])
        return rollout_of(rows, samples)


@pytest.fixture
def context(tmp_path):
    run = SimpleNamespace(
        engine=Engine(),
        tokenizer=TOKENIZER,
        store=Store(),
        config=SimpleNamespace(format="think"),
        source=SOURCES.__getitem__,
        workdir=SimpleNamespace(rollouts=lambda stage: tmp_path / stage),
    )
    return SimpleNamespace(run=run, name="rl", seed=5, seed_for=lambda purpose: 6, resume=None)


def _correct(example_id):
    return min(4, int(example_id[-1]))


def _ids(pool):
    return [example.id for example in pool.examples]


def test_the_pool_holds_the_questions_that_are_sometimes_solved(context, tmp_path):
    audio, text = prompt_pools(STAGE, context, params=None)
    rows = read_jsonl(tmp_path / "rl" / "pass_at_k-world-questions.jsonl")
    assert len(rows) == 40 and all(row["k"] == 4 and row["errors"] == 0 for row in rows)
    assert all(row["correct"] == _correct(row["example_id"]) for row in rows)
    assert _ids(audio) == [row["example_id"] for row in rows if 1 <= row["correct"] <= 3]
    assert text.examples is SOURCES["world:text_percepts"]  # not selected from: all of it
    assert (audio.weight, text.weight) == (0.75, 0.25)


@pytest.mark.parametrize(
    ("strategy", "kept"), [("all", {0, 1, 2, 3, 4}), ("moderate", {1, 2, 3}), ("failed", {0}), ("easy", {4})]
)
def test_each_strategy_keeps_its_questions_of_every_source(context, tmp_path, strategy, kept):
    stage = dataclasses.replace(STAGE, strategy=strategy, select_from=None)
    for pool in prompt_pools(stage, context, params=None):
        assert {_correct(name) for name in _ids(pool)} == kept
    assert {path.name for path in (tmp_path / "rl").glob("selected-*")} == {
        "selected-world-questions",
        "selected-world-text_percepts",
    }


def test_the_choice_is_a_dataset_and_its_counts_are_written(context, tmp_path):
    prompt_pools(STAGE, context, params=None)
    counts = read_json(tmp_path / "rl" / "pass_at_k-world-questions.json")
    assert sum(counts["solved"]) == counts["tried"] == 40 and len(counts["solved"]) == 5
    assert counts["kept"] == sum(counts["solved"][1:4]) and counts["unverified"] == 0
    assert [sum(column) for column in zip(*counts["families"].values())] == counts["solved"]
    chosen = Dataset(tmp_path / "rl" / "selected-world-questions").examples("selected")
    questions = {e.id: e for e in QUESTIONS}
    for example in chosen:
        about = {"selected_for": "rl", "solved": _correct(example.id), "of": 4}
        whole = questions[example.id]
        assert example == dataclasses.replace(whole, provenance={**whole.provenance, **about})


def _pools(context, name, **changes):
    """The questions about sound of a stage of its own name, and their counts."""
    named = SimpleNamespace(**{**vars(context), "name": name})
    stage = dataclasses.replace(STAGE, candidates=60, **changes)
    pool, _ = prompt_pools(stage, named, params=None)
    return pool.examples, read_json(context.run.workdir.rollouts(name) / "pass_at_k-world-questions.json")


def test_a_pool_holds_so_many_of_what_suits_with_equal_shares_of_families(context):
    whole, all_counts = _pools(context, "whole", strategy="all")
    pool, counts = _pools(context, "small", strategy="all", pool=20)
    assert (all_counts["suitable"], all_counts["kept"]) == (60, 60)
    assert (counts["suitable"], counts["kept"], len(pool)) == (60, 20, 20)
    assert counts["solved"] == all_counts["solved"]  # of all that were tried
    names = [example.id for example in whole]
    assert [example.id for example in pool] == [name for name in names if name in {example.id for example in pool}]
    for perceptual, share in ((True, 16), (False, 4)):
        families = collections.Counter(e.family for e in pool if e.perceptual is perceptual)
        there = {e.family for e in whole if e.perceptual is perceptual}
        assert families.total() == share and max(families.values()) - min(families[f] for f in there) <= 1


def test_a_pool_is_the_same_each_time_and_another_by_its_seed(context):
    first, again = (_pools(context, name, strategy="all", pool=10)[0] for name in ("first", "again"))
    assert list(first) and [e.id for e in first] == [e.id for e in again]
    context.seed_for = lambda purpose: {"pass_at_k": 6, "pool": 7}[purpose]
    other, _ = _pools(context, "other", strategy="all", pool=10)
    assert {e.id for e in other} != {e.id for e in first}


def test_a_pool_larger_than_what_suits_is_all_of_it(context):
    whole, _ = _pools(context, "whole")
    pool, counts = _pools(context, "large", pool=1000)
    assert [e.id for e in pool] == [e.id for e in whole]
    assert counts["suitable"] == counts["kept"] == len(pool) < 60
    assert {_correct(e.id) for e in pool} == {1, 2, 3}


@pytest.mark.parametrize("field", [{"pool": 5}, {"select_from": ("world:questions",)}])
def test_what_chooses_among_tried_questions_needs_some(field):
    (name,) = field
    with pytest.raises(BadInput, match=f"^{name}: say how many questions are tried; set candidates$"):
        dataclasses.replace(STAGE, **{"candidates": 0, "select_from": None, **field})


def test_a_question_that_cannot_be_verified_is_left_out_and_counted(context, tmp_path, monkeypatch):
    broken = [dataclasses.replace(e, answer=" ") if i % 2 else e for i, e in enumerate(QUESTIONS)]
    context.run.source = {**SOURCES, "world:questions": broken}.__getitem__
    audio, _ = prompt_pools(dataclasses.replace(STAGE, strategy="all"), context, params=None)
    counts = read_json(tmp_path / "rl" / "pass_at_k-world-questions.json")
    assert 0 < counts["unverified"] < 40 and counts["kept"] == 40 - counts["unverified"] == len(audio.examples)
    assert all(example.answer.strip() for example in audio.examples)


def test_a_resumed_stage_reads_which_questions_it_had(context, tmp_path):
    first = prompt_pools(STAGE, context, params=None)
    calls = context.run.engine.calls
    context.resume = object()
    again = prompt_pools(STAGE, context, params=None)
    # Killed between the trials and the choice, or while it was written.
    (tmp_path / "rl" / "selected-world-questions" / "dataset.json").unlink()
    half = prompt_pools(STAGE, context, params=None)
    shutil.rmtree(tmp_path / "rl" / "selected-world-questions")
    without = prompt_pools(STAGE, context, params=None)
    assert context.run.engine.calls == calls
    assert list(first[0].examples) == list(again[0].examples) == list(half[0].examples) == list(without[0].examples)


def test_a_resumed_stage_without_its_record_says_so(context):
    context.resume = object()
    with pytest.raises(BadInput, match=r"pass_at_k-world-questions\.jsonl: is gone"):
        prompt_pools(STAGE, context, params=None)


def test_an_empty_pool_says_how_often_questions_were_solved(context):
    stage = dataclasses.replace(STAGE, candidates=3, pass_range=(5, 6), pass_samples=8)
    context.run.engine = Never()
    message = (
        r"stages\.rl: strategy='moderate' with pass_range=\(5, 6\) leaves none of 3 questions of world:questions; "
        r"solved 0 to 8 times of 8 were 3 0 0 0 0 0 0 0 0, not verifiable 0; try more candidates"
    )
    with pytest.raises(BadInput, match=message) as caught:
        prompt_pools(stage, context, params=None)
    assert "\n" not in str(caught.value)


class Never(Engine):
    """Answers nothing right."""

    def generate(self, params, prompts, samples, sampling, seed):
        rollout = super().generate(params, prompts, samples, sampling, seed)
        return dataclasses.replace(rollout, finish_reasons=("length",) * len(rollout.finish_reasons))


def test_prompts_are_drawn_by_weight_each_once_before_any_twice():
    pools = [Pool(QUESTIONS[:12], 0.75), Pool(SOURCES["world:text_percepts"][:10], 0.25)]
    drawn = [draw_prompts(pools, 8, seed=1, iteration=i) for i in range(4)]
    assert drawn == [draw_prompts(pools, 8, seed=1, iteration=i) for i in range(4)]
    assert drawn != [draw_prompts(pools, 8, seed=2, iteration=i) for i in range(4)]
    assert all([e.modality for e in some] == ["audio"] * 6 + ["text"] * 2 for some in drawn)
    audio = [e.id for some in drawn for e in some[:6]]
    assert set(audio[:12]) == set(audio[12:]) == {e.id for e in QUESTIONS[:12]}
    assert set(collections.Counter(audio).values()) == {2}


def test_uneven_shares_come_out_even_over_iterations():
    pools = [Pool(SOURCES["world:text_percepts"][:20], 2), Pool(QUESTIONS[:30], 3)]
    drawn = [draw_prompts(pools, 64, seed=1, iteration=i) for i in range(5)]
    numbers = [sum(e.modality == "text" for e in some) for some in drawn]
    assert set(numbers) == {25, 26} and sum(numbers) == 2 * 64  # of 5 x 64
    text = collections.Counter(e.id for some in drawn for e in some if e.modality == "text")
    assert max(text.values()) - min(text.values()) <= 1  # walked on from iteration to iteration


@pytest.mark.parametrize("missing", [None, "bubblewrap is missing; apt-get install bubblewrap"])
def test_programs_without_a_sandbox_are_refused_before_anything_runs(monkeypatch, missing):
    monkeypatch.setattr(selection, "sandbox_available", lambda: missing)
    check_sandbox(run_config(rlvr.get_config("arithmetic,logic,code_predict,dialogue").to_dict()))
    check_sandbox(run_config(quickstart.get_config().to_dict()))
    with_programs = run_config(rlvr.get_config().to_dict())
    if missing is None:
        check_sandbox(with_programs)
        return
    message = r"config\.stages\.cold_start\.sources: 'world:code_write' has programs to run: bubblewrap is missing; apt"
    with pytest.raises(BadInput, match=message):
        check_sandbox(with_programs)
