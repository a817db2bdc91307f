"""Promise: a vote is the answer that most chains give; what is answered freely is a chain where the model thought."""

import dataclasses
from collections import Counter, defaultdict

import pytest
from eval_fakes import BY_ID, POOL, TOKENIZER, Killed, Model, Store, encode_clip, oracle

from step_audio_r1.errors import BadInput
from step_audio_r1.eval import EvalConfig, evaluate, measures_of, summarise
from step_audio_r1.eval.config import jobs_of
from step_audio_r1.eval.run import majority
from tests.world_fakes import rollout_of

CONFIG = EvalConfig(questions=20, arms=("direct", "thinking"), votes=(1, 3, 4), max_new_tokens=40, seed=7)


@pytest.mark.parametrize(
    ("answers", "place"),
    [
        (["a", "b", "b"], 1),
        (["a", "b", "b", "a"], 0),  # of equals the one that was said first
        (["b", "a", "a", "b", "c"], 0),
        ([None, None, "a"], 2),  # no answer is no vote
        ([None, "", " ", "a"], 3),
        (["yes", " YES\n", "no", "No  ", "yes"], 0),
        (["the  dog", "cat", "The dog"], 0),
        (["cat", "the  dog", "The dog"], 1),
        ([None, None], 0),
        ([""], 0),
    ],
)
def test_the_answer_that_was_given_most_often_wins(answers, place):
    assert majority(answers) == place


class Voters(Model):
    """Speaks `voice(example, thinks)` when asked once; sample s of several is `votes[s]` of the gold answer."""

    def __init__(self, votes, die_at=None):
        super().__init__(oracle, die_at)
        self.votes, self.samples = votes, []

    def __call__(self, prompts, samples, sampling, seed):
        self.samples.append(samples)
        if samples == 1:
            return super().__call__(prompts, samples, sampling, seed)
        self.calls.append((prompts, sampling, seed))
        if len(self.calls) == self.die_at:
            raise Killed
        turns = [self.votes[s](BY_ID[prompt.id]) for prompt in prompts for s in range(samples)]
        rows = [[*TOKENIZER.encode(text), *([] if cut else [TOKENIZER.eot])] for text, cut in turns]
        return rollout_of(rows, samples, ["length" if cut else "stop" for _, cut in turns])


def _right(example):
    return oracle(example, True), False


def _wrong(example):
    return "so so\n</think>\nhear", False


def _cut(example):
    """The right answer, cut off: it counts as none."""
    return oracle(example, True), True


def _run(out, model, config=CONFIG):
    path = out / "items" / "last.jsonl"
    return evaluate(model, POOL, TOKENIZER, Store(), config, path, stage="last", round=2, encode_clip=encode_clip)


def _of(rows, arm):
    return [row for row in rows if row["arm"] == arm]


def test_rows_of_votes_are_the_first_chain_that_says_what_most_say(tmp_path):
    model = Voters([_wrong, _right, _right, _wrong])
    rows = _run(tmp_path, model)
    assert list(Counter(row["arm"] for row in rows).items()) == [
        *(("direct", 20), ("thinking", 20), ("majority_1", 20), ("majority_3", 20), ("majority_4", 20))
    ]
    # Asked once for all numbers of votes: the first chains are the same.
    assert model.samples == [1, 1, 4]
    _, sampling, seed = model.calls[-1]
    assert (sampling.temperature, sampling.min_think_tokens, sampling.thinking_budget, seed) == (1.0, 1, None, 7)
    assert all(call[1].temperature == 0 for call in model.calls[:-1])
    # Wrong alone; right by two of three; of two and two the first.
    assert [{row["correct"] for row in _of(rows, f"majority_{n}")} for n in (1, 3, 4)] == [{0.0}, {1.0}, {0.0}]
    one, three, four = (_of(rows, f"majority_{n}") for n in (1, 3, 4))
    ids = [row["example_id"] for row in _of(rows, "thinking")]
    assert all([row["example_id"] for row in group] == ids for group in (one, three, four))
    for a, b, c, alone in zip(one, three, four, _of(rows, "thinking")):
        assert a["think_tokens"] == 2 and a["output"] == c["output"] != b["output"] == alone["output"]
        # The price is that of all chains that voted.
        assert b["think_tokens"] == 2 + 2 * alone["think_tokens"] and c["think_tokens"] == b["think_tokens"] + 2
        assert (b["grounded"], b["surrogate"], b["claims"]) == (True, False, alone["claims"])
        assert {row["audio_attention"] for row in (a, b, c)} == {None}
    assert len({tuple(row) for row in rows}) == 1 and {(r["budget"], r["condition"]) for r in rows} == {(None, "real")}


def test_what_was_cut_off_does_not_vote(tmp_path):
    rows = _run(tmp_path, Voters([_cut, _cut, _wrong, _cut]))
    assert {row["answer"] for n in (3, 4) for row in _of(rows, f"majority_{n}")} == {"hear"}
    # Nobody votes: the first chain stands for it, and is wrong as it is cut.
    assert {(row["finish_reason"], row["correct"]) for row in _of(rows, "majority_1")} == {("length", 0.0)}


@pytest.mark.parametrize("die_at", [2, 3])
def test_a_killed_vote_ends_in_the_same_bytes(tmp_path, die_at):
    votes = [_wrong, _right, _right, _wrong]
    rows = _run(tmp_path / "whole", Voters(votes))
    with pytest.raises(Killed):
        _run(tmp_path / "killed", Voters(votes, die_at))
    again = Voters(votes)
    assert _run(tmp_path / "killed", again) == rows and len(again.samples) == 4 - die_at
    files = [(tmp_path / name / "items" / "last.jsonl").read_bytes() for name in ("whole", "killed")]
    assert files[0] == files[1]


def test_votes_are_cast_on_questions_alone():
    assert [job.name for job in jobs_of(CONFIG)] == ["direct-full-real", "thinking-full-real", "votes"]
    described = dataclasses.replace(CONFIG, questions=0, describe=4)
    assert not any(job.votes for job in jobs_of(described))


@pytest.mark.parametrize("votes", [(0,), (-1, 4), (2, 2)])
def test_numbers_of_votes_that_make_no_sense_are_refused(votes):
    with pytest.raises(BadInput, match=r"evaluation\.votes"):
        EvalConfig(votes=votes)


class Free(Model):
    """Thinks about every second question where the prompt leaves it open."""

    def _row(self, prompt, sampling):
        open_ended = TOKENIZER.decode(prompt.tokens).endswith("<think>\n")
        if open_ended and sampling.min_think_tokens == 0 and int(prompt.id.rpartition("-")[2]) % 2:
            return [*TOKENIZER.encode(f"\n</think>\n{BY_ID[prompt.id].answer}"), TOKENIZER.eot], "stop"
        return super()._row(prompt, sampling)


@pytest.fixture(scope="module")
def freely(tmp_path_factory):
    model = Free(oracle)
    config = EvalConfig(questions=60, arms=("direct", "thinking", "free"), max_new_tokens=64)
    return _run(tmp_path_factory.mktemp("free"), model, config), model


def test_a_free_model_is_prompted_to_think_and_may_answer_at_once(freely):
    rows, model = freely
    direct, thinking, free = model.calls
    for mine, forced, answered in zip(free[0], thinking[0], direct[0], strict=True):
        assert mine.tokens.tolist() == forced.tokens.tolist() != answered.tokens.tolist()
    assert [call[1].min_think_tokens for call in model.calls] == [0, 1, 0]
    assert {(call[1].temperature, call[1].thinking_budget) for call in model.calls} == {(0.0, None)}
    mine, forced = _of(rows, "free"), _of(rows, "thinking")
    assert all(row["think"] for row in forced) and 10 < sum(bool(row["think"]) for row in mine) < 50
    for row, other in zip(mine, forced):
        if row["think"]:
            assert row | {"arm": "thinking"} == other
        else:
            assert (row["correct"], row["think_tokens"], row["claims"]) == (1.0, 0, [])
            assert row["output"].startswith("<think>\n\n</think>\n")
    assert len({tuple(row) for row in rows}) == 1


def test_an_answer_without_a_thought_is_no_chain(freely):
    rows, _ = freely
    found = defaultdict(dict)
    for row in summarise(rows):
        found[row["arm"]][row["domain"], row["kind"]] = row
    free, thinking = (found[arm]["all", "all"] for arm in ("free", "thinking"))
    assert (free["grounded_share"], free["surrogate_share"], free["claim_precision"]) == (1.0, 0.0, 1.0)
    assert (free["n"], free["accuracy"]) == (60, 1.0)
    # The length is the price of an answer, whether it was thought about or not.
    assert free["mean_think_tokens"] == sum(row["think_tokens"] for row in _of(rows, "free")) / 60
    assert 0 < free["mean_think_tokens"] < thinking["mean_think_tokens"]
    never = [row for row in _of(rows, "free") if not row["think"]]
    assert summarise(never)[0]["grounded_share"] is None and summarise(never)[0]["surrogate_share"] is None


def test_measures_of_reasoning_are_of_the_chains_that_were_asked_for(freely, tmp_path):
    rows, _ = freely
    without = [row for row in rows if row["arm"] != "free"]
    assert measures_of(rows) == measures_of(without)
    voted = _run(tmp_path, Voters([_right, _wrong, _wrong, _wrong]))
    assert measures_of(voted) == measures_of([row for row in voted if not row["arm"].startswith("majority")])
