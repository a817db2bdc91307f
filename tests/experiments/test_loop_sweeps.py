"""Promise: the loop's experiments read what their runs have measured, and every number that they name is there."""

from collections import Counter
from pathlib import Path

import pytest

from configs.ablations import ARMS, get_config
from experiments import answers
from experiments.distillation_arms.sweep import SWEEP as DISTILLATION_ARMS
from experiments.grounding.sweep import SWEEP as GROUNDING
from experiments.inverted_scaling.sweep import SWEEP as INVERTED_SCALING
from experiments.mgrd_filter.sweep import SWEEP as MGRD_FILTER
from experiments.self_cognition.sweep import SWEEP as SELF_COGNITION
from experiments.thinking_budget.sweep import SWEEP as THINKING_BUDGET
from step_audio_r1.data.world.identity import FAMILIES as IDENTITY
from step_audio_r1.data.world.questions import FAMILIES
from step_audio_r1.eval import EvalConfig, jobs_of, write_summary
from step_audio_r1.files import read_json, write_json, write_jsonl

SWEEPS = (INVERTED_SCALING, THINKING_BUDGET, MGRD_FILTER, DISTILLATION_ARMS, GROUNDING, SELF_COGNITION)
# Columns of the contract between runs, files and notebooks.
COLUMNS = ["stage", "round", "asked", "budget", "condition", "group", "n", "accuracy", "grounded", "precision"]
COLUMNS += ["surrogate", "think_tokens", "thinks", "self_cognition_error"]
CLAIM = {"text": "loud", "kind": "event_loudness", "value": "loud"}
THINK = "x" * 40


def answer(item: str, correct: float | None = 1.0, **changes) -> dict:
    """A row of eval/items: a question of family "feel" thought about with the real sound."""
    row = {"stage": "text_rlvr", "round": 0, "arm": "thinking", "budget": None, "condition": "real", "clip": item}
    row |= {"example_id": item, "domain": "speech", "kind": "contextual", "family": "feel", "perceptual": True}
    row |= {"think": THINK, "answer": "happy", "think_tokens": 10, "correct": correct, "grounded": True}
    row |= {"claim_precision": 1.0, "surrogate": False, "self_cognition": False, "claims": []}
    row |= changes
    if row["arm"] == "direct":
        row |= {"think": "", "think_tokens": 0, "grounded": None, "claim_precision": None, "surrogate": None}
    return row


def identity(item: str, family: str = "hearing", **changes) -> dict:
    return answer(item, **{"domain": "identity", "kind": "factual", "family": family, "perceptual": None} | changes)


def workdir_of(folder: Path, rows: list[dict], stage: str = "text_rlvr") -> Path:
    write_jsonl(folder / "eval" / "items" / f"{stage}.jsonl", rows)
    write_summary(folder / "eval")
    return folder


def picked(rows, **where) -> dict:
    """The one row with these values."""
    (row,) = [row for row in rows if all(row[name] == value for name, value in where.items())]
    return row


MIXED = [
    answer("a", 1.0, grounded=True, claim_precision=1.0, think_tokens=8),
    answer("b", 0.0, grounded=False, claim_precision=0.5, surrogate=True, think_tokens=12, self_cognition=True),
    answer("c", None, grounded=None, claim_precision=None, family="nth", kind="procedural", domain="environment"),
    answer("d", 1.0, think=" ", family="about", kind="factual", perceptual=False),
    answer("e", 0.0, kind="describe", family="describe", perceptual=True),
    identity("f", correct=0.0, self_cognition=True, think_tokens=2),
    *(answer(name, correct, arm="direct") for name, correct in (("a", 0.0), ("b", 0.0), ("c", 1.0), ("d", 1.0))),
    *(answer(name, 0.0, condition="swapped") for name in ("a", "d")),
    *(answer(name, correct, arm="majority_4", think_tokens=40) for name, correct in (("a", 1.0), ("b", 1.0))),
    answer("a", 0.0, budget=4, think_tokens=4),
]


def test_accuracies_are_worked_out_by_hand(tmp_path):
    read = answers.accuracies(["text_rlvr"], groups=("all", "perceptual", "content", "domain", "kind", "family"))
    rows = list(read(workdir_of(tmp_path, MIXED)))
    assert list(rows[0]) == COLUMNS
    # Describing and identity are in no group, and what was not asked for (votes, budgets, another clip) is no row.
    assert {row["asked"] for row in rows} == {"direct", "thinking"}
    assert {row["group"] for row in rows} == {
        *("all", "perceptual", "content", "speech", "environment", "contextual", "procedural", "factual"),
        *("feel", "nth", "about"),
    }
    found = picked(rows, asked="thinking", group="all")
    assert (found["n"], found["accuracy"]) == (3, pytest.approx(2 / 3))  # one could not be verified
    assert (found["grounded"], found["surrogate"]) == (pytest.approx(2 / 3), 1 / 4)
    assert found["precision"] == pytest.approx(2.5 / 3)
    assert (found["think_tokens"], found["thinks"], found["self_cognition_error"]) == (10.0, 3 / 4, 1 / 4)
    assert picked(rows, asked="thinking", group="content")["thinks"] == 0.0
    direct = picked(rows, asked="direct", group="all")
    assert (direct["accuracy"], direct["think_tokens"], direct["thinks"], direct["grounded"]) == (0.5, None, 0.0, None)


def test_votes_budgets_and_conditions_are_chosen(tmp_path):
    workdir = workdir_of(tmp_path, MIXED)
    asked = ("thinking", "majority_4")
    read = answers.accuracies(["text_rlvr"], asked, budgets=(None, 4), conditions=("real", "swapped"), groups=["all"])
    rows = list(read(workdir))
    assert [(row["asked"], row["budget"], row["condition"]) for row in rows] == [
        ("thinking", None, "real"),
        ("thinking", None, "swapped"),
        ("majority_4", None, "real"),
        ("thinking", 4, "real"),
    ]
    assert picked(rows, asked="majority_4")["think_tokens"] == 40.0
    (only,) = answers.accuracies(["text_rlvr"], ["thinking"], groups=["identity"])(workdir)
    assert (only["group"], only["n"], only["self_cognition_error"]) == ("identity", 1, 1.0)
    assert not list(answers.accuracies(["mgrd_1_rlvr"])(workdir))  # not measured


@pytest.mark.parametrize(
    ("rows", "groups"),
    [
        (MIXED, ("perceptual", "content", "domain", "identity")),
        # The summary counts questions of identity in its totals and among the factual ones.
        ([row for row in MIXED if row["domain"] != "identity"], ("all", "perceptual", "content", "domain", "kind")),
    ],
)
def test_groups_agree_with_the_summary(tmp_path, rows, groups):
    asked = ("direct", "thinking", "majority_4")
    read = answers.accuracies(["text_rlvr"], asked, (None, 4), ("real", "swapped"), groups)
    workdir = workdir_of(tmp_path, rows)
    summary = read_json(workdir / "eval" / "summary.json")
    told = list(read(workdir))
    assert {row["asked"] for row in told} == set(asked)
    for row in told:
        about = {"arm": row["asked"], "budget": row["budget"], "condition": row["condition"]}
        slices = ("all", row["group"]), (row["group"], "all")
        (same,) = [
            part for part in summary if part.items() >= about.items() and (part["domain"], part["kind"]) in slices
        ]
        names = {"grounded": "grounded_share", "precision": "claim_precision", "surrogate": "surrogate_share"}
        names |= {"think_tokens": "mean_think_tokens"}
        for name in ("n", "accuracy", "self_cognition_error", *names):
            assert row[name] == same[names.get(name, name)], (row["group"], name)


def test_gains_are_over_the_questions_of_both_sides(tmp_path):
    rows = list(answers.gains(["text_rlvr"], ("direct", "swapped"))(workdir_of(tmp_path, MIXED)))
    direct = picked(rows, against="direct", group="all")
    assert (direct["n"], direct["thinking"], direct["other"]) == (3, pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert direct["gain"] == pytest.approx(1 / 3)
    swapped = picked(rows, against="swapped", group="perceptual")
    assert (swapped["n"], swapped["thinking"], swapped["other"], swapped["gain"]) == (1, 1.0, 0.0, 1.0)
    assert not [row for row in rows if row["against"] == "silence"]
    with pytest.raises(ValueError, match="no side 'loud'"):
        answers.gains(["text_rlvr"], ["loud"])


def test_denials_are_in_thoughts_or_only_in_the_answer(tmp_path):
    rows = [
        identity("a", think="i cannot hear so no", answer="no", self_cognition=True),
        identity("b", think="hear siren so no", answer="no", self_cognition=True),
        identity("c", "reading"),
        identity("d", "reading"),
        answer("e", think="i cannot hear", self_cognition=True),
        identity("a", arm="free", self_cognition=True),
        identity("a", budget=4, self_cognition=True),
    ]
    told = list(answers.denials(["text_rlvr"], ["thinking"])(workdir_of(tmp_path, rows)))
    assert [row["group"] for row in told] == ["identity", "hearing", "reading", "sound"]
    found = picked(told, group="identity")
    assert (found["n"], found["denied"], found["in_thoughts"], found["only_in_answer"]) == (4, 0.5, 0.25, 0.25)
    assert picked(told, group="reading")["denied"] == 0.0
    assert picked(told, group="sound")["in_thoughts"] == 1.0


def test_measures_and_attention_are_flat(tmp_path):
    claims = [CLAIM | {"start": 0, "end": 4, "status": "supported"}]
    claims.append(CLAIM | {"start": 36, "end": 40, "status": "contradicted"})
    rows = [
        answer("a", claims=claims, audio_attention=[0.5, 0.3]),
        answer("b", 0.0, audio_attention=[0.3]),
        *(answer(name, 0.0, arm="direct") for name in "ab"),
    ]
    workdir = workdir_of(tmp_path, rows)
    first, *_ = answers.measures(workdir)
    assert (first["stage"], first["group"], first["accuracy"]) == ("text_rlvr", "all", 0.5)
    assert [first[f"precision_{quarter}"] for quarter in (1, 2, 3, 4)] == [1.0, None, None, 0.0]
    assert first["thinking_minus_direct_low"] <= first["thinking_minus_direct"] <= first["thinking_minus_direct_high"]
    assert (first["audio_gain"], first["audio_gain_low"]) == (None, None)
    assert first["audio_attention"] == pytest.approx(0.35)
    assert not any(isinstance(value, list | dict) for value in first.values())
    steps = [row for row in answers.attention(workdir) if row["group"] == "all"]
    assert [(row["step"], row["attention"]) for row in steps] == [(1, pytest.approx(0.4)), (2, 0.3)]


def test_a_run_without_measurements_has_no_rows(tmp_path):
    for read in (answers.measures, answers.attention, answers.filters):
        assert not list(read(tmp_path))


def test_filters_tell_each_and_all(tmp_path):
    filters = [
        {"name": "form", "seen": 8, "kept": 4, "errors": 0},
        {"name": "claims", "seen": 4, "kept": 1, "errors": 1},
    ]
    summary = {"round": 2, "sampled": 8, "kept": 1, "filters": filters}
    write_json(tmp_path / "chains" / "round_02" / "summary.json", summary)
    nothing = {"name": "form", "seen": 0, "kept": 0, "errors": 0}
    empty = {"round": 1, "sampled": 0, "kept": 0, "filters": [nothing]}
    write_json(tmp_path / "chains" / "round_01" / "summary.json", empty)
    rows = list(answers.filters(tmp_path))
    assert [(row["round"], row["filter"], row["share"]) for row in rows] == [
        (1, "form", None),
        (1, "all filters", None),
        (2, "form", 0.5),
        (2, "claims", 0.25),
        (2, "all filters", 0.125),
    ]
    whole = picked(rows, round=2, filter="all filters")
    assert (whole["seen"], whole["kept"], whole["errors"]) == (8, 1, 1)


ITEMS = [
    *((name, family.domain, family.kind, family.perceptual) for name, family in FAMILIES.items()),
    *((name, "identity", "factual", None) for name in IDENTITY),
]


def measured_stage(name: str, stage: dict, evaluation: EvalConfig) -> list[dict]:
    """An item of each family in each pass that the arm's config makes after the stage."""
    rows = []
    for job in jobs_of(evaluation):
        if stage["evaluate"] == "arms" and (job.budget is not None or job.condition != "real" or job.votes):
            continue
        claims = [CLAIM | {"start": start, "end": start + 4, "status": "supported"} for start in range(0, 40, 10)]
        about = {"stage": name, "round": stage.get("round", 0), "budget": job.budget, "condition": job.condition}
        about |= {"claims": claims, "audio_attention": [0.5] * 16 if job.arm == "thinking" else None}
        for arm in [f"majority_{votes}" for votes in job.votes] or [job.arm]:
            for family, domain, kind, perceptual in ITEMS:
                item = {"family": family, "domain": domain, "kind": kind, "perceptual": perceptual}
                rows.append(answer(family, **about | item, arm=arm))
    return rows


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """The measurements of a run of each arm, as far as readers look at them."""
    made = {}
    for arm in dict.fromkeys(name for sweep in SWEEPS for name in sweep.arms):
        config = get_config(arm)
        workdir = tmp_path_factory.mktemp(arm)
        settings = config.evaluation.to_dict() | {"describe": 0}
        evaluation = EvalConfig(**{name: _frozen(value) for name, value in settings.items()})
        for name in config.order:
            stage = config.stages[name].to_dict()
            if stage["kind"] == "distil":
                filters = [{"name": f, "seen": 8, "kept": 4, "errors": 0} for f in stage["mgrd"]["filters"]]
                summary = {"round": stage["round"], "sampled": 8, "kept": 2, "filters": filters}
                write_json(workdir / "chains" / f"round_{stage['round']:02d}" / "summary.json", summary)
            elif stage.get("evaluate", "nothing") in ("arms", "everything"):
                write_jsonl(workdir / "eval" / "items" / f"{name}.jsonl", measured_stage(name, stage, evaluation))
        write_summary(workdir / "eval", list(config.order))
        made[arm] = workdir
    return made


def _frozen(value):
    return tuple(value) if isinstance(value, list) else value


def read_as_files(sweep, workdirs) -> dict[str, list[dict[str, str]]]:
    """The tables of one seed as they come back from their files."""
    return {
        name: [
            {"arm": arm, "seed": "0"} | {key: "" if value is None else str(value) for key, value in row.items()}
            for arm in sweep.arms
            for row in reader(workdirs[arm])
        ]
        for name, reader in sweep.tables.items()
    }


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.name)
def test_every_cell_of_every_contrast_is_there(sweep, workdirs):
    assert set(sweep.arms) <= ARMS.keys() and set(sweep.labels) <= set(sweep.arms)
    assert max(Counter(contrast.name for contrast in sweep.contrasts).values()) == 1
    assert any(contrast.decides for contrast in sweep.contrasts)
    tables = read_as_files(sweep, workdirs)
    for contrast in sweep.contrasts:
        assert contrast.says.endswith(".") and not (contrast.decides and contrast.expected is None)
        for cell in (*contrast.plus, *contrast.minus):
            assert cell.where["arm"] in sweep.arms
            assert len(cell.of(tables[cell.table])) == 1, (contrast.name, cell)


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.name)
def test_tables_are_told_of_every_arm(sweep, workdirs):
    for name, rows in read_as_files(sweep, workdirs).items():
        distilled = {arm for arm in sweep.arms if arm not in ("direct_sft", "structured")}
        assert {row["arm"] for row in rows} == (distilled if name == "filters" else set(sweep.arms)), name
        assert len({tuple(row) for row in rows}) == 1, name  # the same columns in every row
