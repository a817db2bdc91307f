"""Promise: a config is read whole or refused with the field's full name, and its JSON is the same config."""

import copy
import importlib
import json

import pytest

from configs.recipe import self_cognition_dpo
from step_audio_r1.errors import BadInput
from step_audio_r1.pipeline.config import run_config, to_json
from step_audio_r1.pipeline.stage_config import steps_of

NAMES = ["quickstart", "miniature", "tiny", "miniature_encoder", "ablations", "rlvr", "step_audio_r1"]


def _values(name: str = "tiny") -> dict:
    return importlib.import_module(f"configs.{name}").get_config().to_dict()


@pytest.mark.parametrize("name", NAMES)
def test_every_config_is_valid_and_round_trips_through_json(name):
    values = _values(name)
    config = run_config(values)
    assert config.name == values["name"] and config.order == tuple(values["order"])
    for stage, fields in values["stages"].items():
        assert config.stages[stage].kind == fields["kind"]
    text = json.dumps(to_json(config))
    assert run_config(json.loads(text)) == config
    assert json.dumps(to_json(run_config(json.loads(text)))) == text


def test_values_arrive_where_they_belong():
    values = _values()
    values["stages"]["pretrain"]["optimiser"]["learning_rate"] = 1
    values["stages"]["mgrd_1_rlvr"]["pass_range"] = [1, 2]
    values["evaluation"]["budgets"] = [None, 3]
    config = run_config(values)
    rate = config.stages["pretrain"].optimiser.learning_rate
    assert rate == 1.0 and isinstance(rate, float)
    assert config.stages["mgrd_1_rlvr"].pass_range == (1, 2)
    assert config.evaluation.budgets == (None, 3)
    assert config.model.decoder.d_model == 32
    assert hash(config.model) == hash(run_config(values).model)  # models are static arguments of compiled programs


def _set(path: str, value):
    """A change of one field; a value of `DROP` removes it."""

    def change(values: dict) -> None:
        *outer, last = path.split(".")
        for name in outer:
            values = values[name]
        if value is DROP:
            del values[last]
        else:
            values[last] = value

    return change


DROP = object()

BAD = [
    # unknown fields
    ("colour", 1, r"config\.colour: unknown field"),
    ("model.decoder.depth", 2, r"config\.model\.decoder\.depth: unknown field"),
    ("stages.pretrain.batch.width", 2, r"config\.stages\.pretrain\.batch\.width: unknown field"),
    ("evaluation.arm", "direct", r"config\.evaluation\.arm: unknown field"),
    # wrong types
    ("seed", "0", r"config\.seed='0': expected int"),
    ("seed", 1.5, r"config\.seed=1\.5: expected int"),
    ("seed", True, r"config\.seed=True: expected int"),
    ("name", 3, r"config\.name=3: expected str"),
    ("model", 3, r"config\.model=3: expected a mapping"),
    ("stages.pretrain.steps", None, r"config\.stages\.pretrain\.steps=None: expected int"),
    ("stages.pretrain.optimiser.learning_rate", "1e-3", r"config\.stages\.pretrain\.optimiser\.learning_rate="),
    ("stages.pretrain.sources", ["a"], r"config\.stages\.pretrain\.sources=.*mapping"),
    ("stages.pretrain.sources", {"a": "b"}, r"config\.stages\.pretrain\.sources\.a='b': expected float"),
    ("stages.mgrd_1_rlvr.pass_range", (1, 2, 3), r"config\.stages\.mgrd_1_rlvr\.pass_range=.*2 values"),
    ("evaluation.budgets", 4, r"config\.evaluation\.budgets=4: expected a sequence"),
    ("evaluation.budgets", ["4"], r"config\.evaluation\.budgets\[0\]='4'"),
    ("format", "xml", r"config\.format='xml': expected one of 'think'"),
    ("model.compute_dtype", "float16", r"config\.model\.compute_dtype='float16': expected one of"),
    ("stages.pretrain.evaluate", "all", r"config\.stages\.pretrain\.evaluate='all': expected one of"),
    # missing fields
    ("seed", DROP, r"config\.seed: missing"),
    ("model.decoder.vocab", DROP, r"config\.model\.decoder\.vocab: missing"),
    ("stages.pretrain.steps", DROP, r"config\.stages\.pretrain\.steps: missing"),
    # stages
    ("stages.pretrain.kind", "grpo", r"config\.stages\.pretrain\.kind='grpo': expected one of encoder, sft"),
    ("stages.pretrain.kind", DROP, r"config\.stages\.pretrain\.kind=None"),
    ("order", ("pretrain", "polish"), r"config\.order: stage 'polish' is not in config\.stages"),
    ("order", ("pretrain", "pretrain"), r"config\.order"),
    ("order", (), r"config\.order"),
    # sources and splits that are not there, told before anything runs
    (
        "stages.cold_start.sources",
        {"wrold:describe": 1.0},
        r"config\.stages\.cold_start\.sources: .*no dataset 'wrold'",
    ),
    ("stages.cold_start.sources", {"world:describes": 1.0}, r"config\.stages\.cold_start\.sources: .*no source 'desc"),
    ("stages.cold_start.sources", {"chains:1": 1.0}, r"no stage before this one distils round 1"),
    ("stages.mgrd_1_sft.sources", {"chains:x": 1.0}, r"no stage before this one distils round x"),
    ("stages.cold_start.sources", {"world:describe": 0.0}, r"at least one source a weight above 0"),
    ("stages.cold_start.sources", {"world:logic": 1.0}, r"no source 'logic'; .*; set config\.world\.tasks"),
    (
        "stages.mgrd_1_rlvr.strategy",
        "hard",
        r"stages\.mgrd_1_rlvr\.strategy='hard': expected one of 'all', ",
    ),
    ("stages.mgrd_1_rlvr.strategy", "easy", r"config\.stages\.mgrd_1_rlvr: strategy='easy': nothing lies above"),
    (
        "stages.mgrd_1_rlvr.select_from",
        ("world:text_caption",),
        r"mgrd_1_rlvr: select_from: 'world:text_cap",
    ),
    ("stages.text_rlvr.select_from", ("world:text_caption",), r"text_rlvr: select_from: .*; set candidates"),
    ("world.tasks", True, r"config\.world\.tasks=True: expected int"),
    ("stages.cold_start.sources", {"world:identity": 1.0}, r"no source 'identity'; .*; set config\.world\.identity"),
    ("stages.distil_1.source", "world_validation:questions", r"no dataset 'world_validation'"),
    ("evaluation.split", "validation", r"config\.evaluation\.split='validation': has no clips"),
    ("evaluation.describe", 0, r"config\.evaluation\.describe=0"),
    ("evaluation.questions", 0, r"config\.evaluation\.questions=0"),
    # numbers out of bounds
    ("seed", -1, r"config\.seed=-1: expected at least 0"),
    ("seed", 2**31, r"config\.seed=2147483648"),
    ("checkpoint_every", 0, r"config\.checkpoint_every=0: expected at least 1"),
    ("log_every", 0, r"config\.log_every=0: expected at least 1"),
    ("stages.cold_start.steps", 0, r"config\.stages\.cold_start\.steps=0: .*leave the stage out"),
    ("stages.cold_start.batch.rows", 0, r"config\.stages\.cold_start\.batch\.rows=0: expected at least 1"),
    ("stages.text_rlvr.iterations", 0, r"config\.stages\.text_rlvr\.iterations=0: expected at least 1"),
    ("stages.text_rlvr.ppo.critic_minibatches", 0, r"config\.stages\.text_rlvr\.ppo\.critic_minibatches=0"),
    ("stages.mgrd_1_rlvr.candidates", 0, r"config\.stages\.mgrd_1_rlvr\.candidates=0: expected at least 1"),
    ("stages.mgrd_1_rlvr.pass_range", (3, 9), r"config\.stages\.mgrd_1_rlvr: pass_range=\(3, 9\).*pass_samples=8"),
    ("stages.distil_1.mgrd.samples", 0, r"^config\.stages\.distil_1\.mgrd\.samples=0: at least 1"),
    # values that cannot work
    ("model.decoder.kv_heads", 3, r"model\.decoder\.kv_heads=3 must divide model\.decoder\.heads"),
    ("stages.text_rlvr.sampling.max_new_tokens", 0, r"sampling\.max_new_tokens=0"),
]


def test_two_rounds_of_one_number_would_write_to_one_folder():
    values = _values("ablations")
    values["stages"]["distil_2"]["round"] = 1
    with pytest.raises(BadInput, match=r"config\.stages\.distil_2\.round=1: an earlier stage distils it"):
        run_config(values)


@pytest.mark.parametrize(("path", "value", "message"), BAD, ids=[f"{p}-{i}" for i, (p, *_) in enumerate(BAD)])
def test_a_mistake_is_told_by_the_fields_whole_name(path, value, message):
    values = _values()
    _set(path, value)(values)
    with pytest.raises(BadInput, match=message) as caught:
        run_config(values)
    assert "\n" not in str(caught.value)


def test_a_dpo_stage_is_read_and_its_mistakes_are_told():
    values = _values()
    values["world"]["identity"] = 20
    values["stages"]["dpo"] = self_cognition_dpo(steps=5).to_dict()
    values["order"] = (*values["order"], "dpo")
    config = run_config(values)
    assert config.stages["dpo"].dpo.beta == 0.1 and steps_of(config.stages["dpo"]) == 5
    assert run_config(json.loads(json.dumps(to_json(config)))) == config
    assert config.world.identity_of("test") == 2 and config.world.identity_of("probe") == 0
    for path, value, message in (
        ("dpo.beta", 0.0, r"config\.stages\.dpo\.dpo\.beta=0\.0: above 0"),
        ("rows", 0, r"config\.stages\.dpo\.rows=0: expected at least 1"),
        ("sources", {"world:identities": 1.0}, r"config\.stages\.dpo\.sources: .*no source 'identities'"),
        ("sampling.max_new_tokens", 0, r"config\.stages\.dpo\.sampling\.max_new_tokens=0"),
    ):
        wrong = copy.deepcopy(values)
        _set(f"stages.dpo.{path}", value)(wrong)
        with pytest.raises(BadInput, match=message):
            run_config(wrong)
