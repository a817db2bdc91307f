"""Promise: a DPO stage makes its pairs once, with its first weights; killed at any moment it ends with equal bits."""

import dataclasses
import json
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from step_audio_r1.errors import BadInput, Preempted
from step_audio_r1.pipeline import dpo, pairs
from step_audio_r1.pipeline.stage_config import DPOStage
from step_audio_r1.pipeline.stages import StageContext, abstract_state
from step_audio_r1.rollout import SamplingConfig
from step_audio_r1.train import (
    Checkpoints,
    DPOConfig,
    Goodput,
    MetricWriter,
    OptimiserConfig,
    Preemption,
)
from tests.pipeline.one_stage import Killed, dies, run_stage
from tests.train.small_model import (
    CONFIG,
    MODEL,
    ONE,
    STORE,
    TOKENIZER,
    example,
    quick_compilation,
)
from tests.world_fakes import rollout_of

__all__ = ["quick_compilation"]  # compiles without optimising

STAGE = DPOStage(
    kind="dpo",
    steps=6,
    sources={"small:asked": 1.0, "small:ordinary": 0.5},
    questions=9,
    samples=4,
    pairs_per_question=2,
    sampling=SamplingConfig(max_new_tokens=16),
    dpo=DPOConfig(beta=0.2, sft_weight=0.1),
    rows=4,
    max_tokens=96,
    optimiser=OptimiserConfig(1e-2, final_fraction=1.0),
)
CHOICES = ("bell", "rain")


def _questions(name: str, count: int) -> list:
    """Of clips, to which "rain" is what a text model would answer; and one of no clip."""
    found = [
        dataclasses.replace(
            example(f"{name}-{i}", ("one", "two")[: 1 + i % 2], "which is loud ?"),
            answer="bell",
            choices=CHOICES,
            provenance={"text_answer": "rain"},
        )
        for i in range(count)
    ]
    return [*found, example(f"{name}-silent", (), "which is loud ?")]


SOURCES = {"small:asked": _questions("asked", 8), "small:ordinary": _questions("ordinary", 4)}
HEARS, HEARS_MORE, DENIES, GUESSES = (
    f"{think}\n</think>\n{answer}"
    for think, answer in (
        ("hear a bell so bell", "bell"),
        ("hear the bell is loud so bell", "bell"),
        ("hear the dog so rain", "rain"),
        ("the answer is rain", "rain"),
    )
)


class Scripted:
    """Says one of a few things, by prompt, seed and sample; without sound always what a text model says."""

    with_sound = (HEARS, HEARS_MORE, HEARS, DENIES)
    without = (GUESSES, DENIES)

    def decode_params(self, params):
        return params

    def generate(self, weights, prompts, samples, sampling, seed):
        rows = [
            [*TOKENIZER.encode(self._says(prompt, seed, i)), TOKENIZER.eot]
            for prompt in prompts
            for i in range(samples)
        ]
        return rollout_of(rows, samples)

    def _says(self, prompt, seed: int, sample: int) -> str:
        phrases = self.with_sound if len(prompt.features) else self.without
        return phrases[zlib.crc32(f"{prompt.id} {seed} {sample}".encode()) % len(phrases)]


def _resources(workdir: Path, engine) -> SimpleNamespace:
    return SimpleNamespace(
        mesh=ONE,
        model=MODEL,
        engine=engine,
        tokenizer=TOKENIZER,
        store=STORE,
        config=SimpleNamespace(format="think", seed=3, model=CONFIG, checkpoint_every=2, log_every=1),
        source=SOURCES.get,
        workdir=SimpleNamespace(pairs=lambda stage: workdir / "pairs" / stage),
    )


def _run(workdir: Path, stage: DPOStage = STAGE, engine=None) -> dict:
    """The stage, from the newest checkpoint of `workdir` if there is one; what the run is judged by."""
    run = _resources(workdir, engine or Scripted())

    def know(context: StageContext, params: Any) -> Any:
        return dpo.run_dpo(stage, context, params)

    found = run_stage(workdir, "know", run, lambda: abstract_state(stage, run), know)
    written = [(workdir / "pairs" / "know" / name).read_bytes() for name in ("pairs.jsonl", "pairs.json")]
    return {**found, "pairs": written}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def undisturbed(workdir):
    return _run(workdir)


def _pairs(workdir: Path):
    folder = workdir / "pairs" / "know"
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    return rows, json.loads((folder / "pairs.json").read_text())


def test_pairs_are_of_the_models_own_outputs_and_say_how_they_were_made(workdir, undisturbed):
    rows, counts = _pairs(workdir)
    assert len(rows) == counts["pairs"] == sum(counts["rejected"].values()) >= STAGE.rows
    assert min(counts["rejected"].values()) > 0  # some questions had errors enough, others had to be provoked
    for row in rows:
        asked = SOURCES[row["source"]][row["index"]]
        assert asked.id == row["example_id"] and asked.clips
        assert row["chosen"] in (f"<think>\n{x}" for x in (HEARS, HEARS_MORE)) and row["made"]["chosen"] == "sampled"
        assert row["rejected"] in (f"<think>\n{x}" for x in (DENIES, GUESSES)) and row["denials"] == ["answer rain"]
        if GUESSES in row["rejected"]:  # which is said without the sound alone
            assert row["made"]["rejected"] == "provoked"
        for side in pairs.SIDES:
            assert f"<think>\n{TOKENIZER.decode(row['tokens'][side][:-1])}" == row[side]
            assert row["tokens"][side][-1] == TOKENIZER.eot
    about = counts["sources"]
    assert (about["small:asked"]["questions"], about["small:ordinary"]["questions"]) == (6, 3)
    for of_source in about.values():
        assert of_source["outputs"] == 4 * of_source["questions"] and of_source["cut_off"] == 0
        assert of_source["could_be_chosen"] + of_source["errors"] == of_source["outputs"]
        low, high = of_source["error_ci95"]
        assert low < of_source["errors"] / of_source["outputs"] < high


def test_the_reference_is_the_first_weights_and_steps_begin_at_log_2(workdir, undisturbed):
    rows, _ = _pairs(workdir)
    assert np.array([row["reference"] for row in rows]).max() < -5
    first, *_, last = undisturbed["metrics"]
    assert abs(first["dpo/loss"] - np.log(2)) < 1e-6 and last["dpo/loss"] < 0.5
    assert last["dpo/accuracy"] == 1.0
    assert {"dpo/margin", "dpo/logp_chosen", "dpo/logp_rejected", "dpo/grad_norm"} <= first.keys()
    # The sums that the step found at the start are the stored ones of the pairs that it drew.
    layout = pairs.Layout(_resources(workdir, None), STAGE, rows)
    drawn = next(pairs.PairStream(layout, len(rows), STAGE.rows, _seed()))["reference"].mean(0)
    np.testing.assert_allclose([first["dpo/logp_chosen"], first["dpo/logp_rejected"]], drawn, rtol=1e-6)


def _seed() -> int:
    return StageContext(SimpleNamespace(config=SimpleNamespace(seed=3)), "know", 0, None).seed


def test_every_pair_is_drawn_before_any_comes_again(workdir, undisturbed):
    rows, _ = _pairs(workdir)
    seen = []
    layout = SimpleNamespace(batch=lambda numbers: seen.extend(numbers))
    stream = pairs.PairStream(layout, len(rows), 3, seed=1)
    for _ in range(len(rows)):
        next(stream)
    epochs = [seen[at : at + len(rows)] for at in range(0, len(seen), len(rows))]
    assert all(sorted(epoch) == list(range(len(rows))) for epoch in epochs) and epochs[0] != epochs[1]
    again = pairs.PairStream(layout, len(rows), 3, seed=1)
    again.set_state({"drawn": 6})
    seen.clear()
    next(again)
    assert seen == [n for epoch in epochs for n in epoch][6:9] and again.get_state() == {"drawn": 9}


def test_too_few_pairs_are_told_with_their_counts(tmp_path):
    class Deaf(Scripted):
        with_sound = (DENIES, GUESSES)

    with pytest.raises(
        BadInput, match=r"config\.stages\.know: 0 pairs, fewer than rows=4; of 36 outputs to 9 .* 36 and"
    ):
        _run(tmp_path, engine=Deaf())
    assert json.loads((tmp_path / "pairs" / "know" / "pairs.json").read_text())["pairs"] == 0
    short = dataclasses.replace(STAGE, max_tokens=40)
    with pytest.raises(BadInput, match=r"[1-9]\d* pairs exceed max_tokens=40") as caught:
        _run(tmp_path, short)
    assert "\n" not in str(caught.value)


def test_own_errors_come_first_and_no_more_pairs_are_made_than_asked_for(tmp_path):
    few = dataclasses.replace(STAGE, pairs=5, steps=1, pairs_per_question=1)
    asked = []

    class Counting(Scripted):
        def generate(self, weights, prompts, samples, sampling, seed):
            asked.append([prompt.id for prompt in prompts])
            return super().generate(weights, prompts, samples, sampling, seed)

    _run(tmp_path / "few", few, Counting())
    rows, counts = _pairs(tmp_path / "few")
    assert counts["pairs"] == 5 and len({row["example_id"] for row in rows}) == 5
    assert counts["rejected"] == {"sampled": 5, "provoked": 0} and len(asked) == 1
    _run(tmp_path / "more", dataclasses.replace(few, pairs=8), Counting())
    rows, counts = _pairs(tmp_path / "more")
    made = [row["made"]["rejected"] for row in rows]
    assert made == sorted(made, key=["sampled", "provoked"].index) and {*made} == {"sampled", "provoked"}
    # Only questions without an error of their own are asked again.
    assert {*asked[2]} and not {*asked[2]} & {row["example_id"] for row in rows if row["made"]["rejected"] == "sampled"}


def test_families_have_as_many_pairs_as_there_are():
    """Of three families one has many own errors, one has few, and one has provoked ones only."""
    own, provoked = (SimpleNamespace(rejected=SimpleNamespace(origin=origin)) for origin in ("sampled", "provoked"))

    def asked(family):
        return pairs._Question("small:asked", 0, dataclasses.replace(SOURCES["small:asked"][0], family=family))

    found = (
        [(asked("many"), own)] * 5 + [(asked("few"), provoked), (asked("none"), provoked)] * 2 + [(asked("few"), own)]
    )
    turns = [(question.example.family, pair.rejected.origin) for question, pair in pairs._in_turn(found)]
    assert turns[:3] == [("many", "sampled"), ("few", "sampled"), ("none", "provoked")]
    assert turns[3:6] == [("many", "sampled"), ("few", "provoked"), ("none", "provoked")]
    assert len(turns) == len(found) == 10


def test_questions_without_sound_are_no_questions_of_hearing(tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "small:ordinary", [SOURCES["small:ordinary"][-1]])
    with pytest.raises(BadInput, match=r"know\.sources: small:ordinary has no question about a clip"):
        _run(tmp_path)


# Moment -> (whose method it is, its name, in which of its calls the process ends).
MOMENTS = {
    "sampling": (Scripted, "generate", 2),
    "provoked sampling": (Scripted, "generate", 4),
    "before the counts are written": (pairs, "write_json", 1),
    "reference, first batch": (pairs, "pairs_to_device", 1),
    "reference, second batch": (pairs, "pairs_to_device", 2),
    "before the pairs are written": (pairs, "write_jsonl", 1),
    "after the pairs are written": (dpo, "train_state", 1),
    "first step": (dpo, "pairs_to_device", 1),
    "a step after a checkpoint": (dpo, "pairs_to_device", 4),
    "report": (MetricWriter, "write", 4),
    "before saving": (Checkpoints, "save", 2),
    "after saving": (Goodput, "mark", 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_ends_with_the_same_bits(moment, undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        # A chunk of few questions, so that sampling has several parts.
        patch.setattr(pairs, "_CHUNK", 4)
        dies(patch, *MOMENTS[moment])
        with pytest.raises(Killed):
            _run(tmp_path)
    assert _run(tmp_path) == undisturbed


@pytest.mark.slow
def test_preempted_ends_with_the_same_bits(undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        asked = []
        patch.setattr(Preemption, "due", lambda _: asked.append(1) or len(asked) == 3)
        with pytest.raises(Preempted, match="saved step 3"):
            _run(tmp_path)
    assert _run(tmp_path) == undisturbed


@pytest.mark.slow
def test_a_stage_half_done_needs_its_pairs(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        dies(patch, *MOMENTS["a step after a checkpoint"])
        with pytest.raises(Killed):
            _run(tmp_path)
    (tmp_path / "pairs" / "know" / "pairs.jsonl").unlink()
    with pytest.raises(BadInput, match=r"pairs\.jsonl: is gone, and a stage half done needs it"):
        _run(tmp_path)
