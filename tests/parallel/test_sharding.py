"""Promise: a run on many devices is the run on one, its parameters lie where the rules say, bad meshes are refused."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from step_audio_r1.data.batches import BatchConfig, batches
from step_audio_r1.errors import BadInput
from step_audio_r1.model import AudioLM
from step_audio_r1.parallel import DECODING, TRAINING, MeshConfig, Rules, batch_rows_divide, make_mesh, shardings
from step_audio_r1.rl import PPO, PPOConfig, ppo, rollout_batch
from step_audio_r1.rollout import LocalEngine, Rollout, SamplingConfig
from step_audio_r1.train import abstract_params, make_sft_step, param_shardings, to_device, train_state
from tests.train.small_model import (
    CONFIG,
    EXAMPLES,
    MODEL,
    ONE,
    REAL,
    STORE,
    TOKENIZER,
    assert_trees_agree,
    host,
    initial,
    last_gradient,
    prompt,
    sgd,
)

CUT = make_mesh(MeshConfig(2, 2, 2))

# Every parameter of the trained parts and the axes it is cut along (the first axis of a layer's is the layers').
GOLDEN = {
    "adaptor.conv.bias": P("fsdp"),
    "adaptor.conv.kernel": P(None, None, "fsdp"),
    "adaptor.linear1.bias": P("tensor"),
    "adaptor.linear1.kernel": P(None, "tensor"),
    "adaptor.linear2.bias": P("fsdp"),
    "adaptor.linear2.kernel": P("tensor", "fsdp"),
    "decoder.embedding": P("tensor", "fsdp"),
    "decoder.head.kernel": P("fsdp", "tensor"),
    "decoder.norm.scale": P(None),
    "decoder.layers.input_norm.scale": P(None, None),
    "decoder.layers.post_attention_norm.scale": P(None, None),
    "decoder.layers.q.kernel": P(None, "fsdp", "tensor"),
    "decoder.layers.q.bias": P(None, "tensor"),
    "decoder.layers.k.kernel": P(None, "fsdp", "tensor"),
    "decoder.layers.k.bias": P(None, "tensor"),
    "decoder.layers.v.kernel": P(None, "fsdp", "tensor"),
    "decoder.layers.v.bias": P(None, "tensor"),
    "decoder.layers.o.kernel": P(None, "tensor", "fsdp"),
    "decoder.layers.gate.kernel": P(None, "fsdp", "tensor"),
    "decoder.layers.up.kernel": P(None, "fsdp", "tensor"),
    "decoder.layers.down.kernel": P(None, "tensor", "fsdp"),
    "encoder.conv1.kernel": P(None, None, "fsdp"),
    "encoder.conv1.bias": P("fsdp"),
    "encoder.conv2.kernel": P(None, None, "fsdp"),
    "encoder.conv2.bias": P("fsdp"),
    "encoder.positional_embedding": P(None, None),
    "encoder.after_norm.scale": P(None),
    "encoder.after_norm.bias": P(None),
    "encoder.blocks.attn_ln.scale": P(None, None),
    "encoder.blocks.attn_ln.bias": P(None, None),
    "encoder.blocks.mlp_ln.scale": P(None, None),
    "encoder.blocks.mlp_ln.bias": P(None, None),
    "encoder.blocks.query.kernel": P(None, None, "fsdp"),
    "encoder.blocks.query.bias": P(None, "fsdp"),
    "encoder.blocks.key.kernel": P(None, None, "fsdp"),
    "encoder.blocks.value.kernel": P(None, None, "fsdp"),
    "encoder.blocks.value.bias": P(None, "fsdp"),
    "encoder.blocks.out.kernel": P(None, "fsdp", None),
    "encoder.blocks.out.bias": P(None, None),
    "encoder.blocks.fc1.kernel": P(None, None, "fsdp"),
    "encoder.blocks.fc1.bias": P(None, "fsdp"),
    "encoder.blocks.fc2.kernel": P(None, "fsdp", None),
    "encoder.blocks.fc2.bias": P(None, None),
}


def _by_name(tree):
    return {".".join(k.key for k in path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _place(mesh):
    where = param_shardings(CONFIG, mesh, TRAINING)
    return jax.tree.map(lambda x, s: jax.device_put(np.array(x), s), initial(), {k: where[k] for k in initial()})


def test_every_parameter_is_cut_as_written_here():
    assert {name: where.spec for name, where in _by_name(param_shardings(CONFIG, CUT, TRAINING)).items()} == GOLDEN


def test_parameters_and_moments_really_are_in_pieces():
    tx = optax.adam(1e-3)
    state = train_state(_place(CUT), tx, CUT)
    for tree in (state.params, state.opt_state[0].mu, state.opt_state[0].nu):
        for name, x in _by_name(tree).items():
            ways = 2 ** sum(axis is not None for axis in GOLDEN[name])
            assert x.addressable_shards[0].data.size * ways == x.size, name
    assert state.step.is_fully_replicated


def test_decoding_keeps_the_width_whole():
    specs = {name: s.spec for name, s in _by_name(param_shardings(CONFIG, CUT, DECODING)).items()}
    assert not any("fsdp" in spec for spec in specs.values())
    assert specs["decoder.layers.q.kernel"] == P(None, None, "tensor")


@functools.cache
def _batch():
    stream = batches({"four": (EXAMPLES, 1.0)}, TOKENIZER, STORE, BatchConfig(8, 64, 3, 8), seed=0)
    return next(stream)


# fsdp alone, fsdp with tensor, and all three; the model knows its mesh, as in a run.
SHAPES = [(1, 8, 1), (1, 4, 2), (2, 2, 2)]


def _mesh(shape):
    return ONE if shape == (1, 1, 1) else make_mesh(MeshConfig(*shape))


def _model(mesh):
    return MODEL if mesh is ONE else MODEL.clone(mesh=mesh)


def _values(metrics):
    return {name: m.value() for name, m in jax.device_get(metrics).items()}


def _assert_in_place(state, places):
    for (path, x), place in zip(jax.tree.leaves_with_path(state), jax.tree.leaves(places)):
        assert x.sharding.is_equivalent_to(place, x.ndim), (jax.tree_util.keystr(path), x.sharding, place)


@functools.cache
def _sft_step(shape, micro_batches=1):
    mesh, tx = _mesh(shape), sgd()
    state = train_state(_place(mesh), tx, mesh)
    places = jax.tree.map(lambda x: x.sharding, state)
    step = make_sft_step(_model(mesh), tx, optax.constant_schedule(1.0), mesh, state, micro_batches)
    state, metrics = step(state, to_device(_batch(), mesh))
    _assert_in_place(state, places)
    return last_gradient(state), host(state.params), _values(metrics)


def _assert_same_step(found, expected):
    for x, y in zip(found[:-1], expected[:-1], strict=True):
        assert_trees_agree(x, y, 1e-5)
    assert found[-1].keys() == expected[-1].keys()
    for name, value in expected[-1].items():
        np.testing.assert_allclose(found[-1][name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("shape", [*SHAPES, *(pytest.param(s, marks=pytest.mark.slow) for s in ((8, 1, 1), (2, 4, 1)))])
def test_an_sft_step_is_the_same_on_any_mesh(shape):
    _assert_same_step(_sft_step(shape), _sft_step((1, 1, 1)))


def test_micro_batches_on_a_mesh_are_the_whole_batch():
    _assert_same_step(_sft_step((2, 2, 2), micro_batches=2), _sft_step((1, 1, 1)))


@functools.cache
def _ppo_iteration(shape, micro_batches=1):
    mesh, original = _mesh(shape), ppo.optimiser
    ppo.optimiser = sgd
    try:
        config = PPOConfig(critic_minibatches=1, policy_micro_batches=micro_batches, critic_micro_batches=micro_batches)
        algorithm = PPO(_model(mesh), mesh, config, 1)
    finally:
        ppo.optimiser = original
    rng = np.random.default_rng(0)
    lengths = np.array([4, 1, 0, 3, 4, 2, 4, 1], np.int32)
    tokens = np.where(np.arange(4) < lengths[:, None], rng.integers(0, REAL, (8, 4)), 0).astype(np.int32)
    rollout = Rollout(tokens, lengths, np.zeros((8, 4), np.float32), ("stop",) * 8, 4)
    rewards = rng.uniform(size=8).astype(np.float32)
    rows = rollout_batch([prompt(0), prompt(1)], rollout, rewards, np.ones(8, bool), 32)
    state = algorithm.init(_place(mesh), jax.random.key(0))
    places = jax.tree.map(lambda x: x.sharding, state)
    after, metrics = algorithm.iterate(state, rows, 0, 0)
    _assert_in_place(after, places)
    return (
        last_gradient(after.actor),
        last_gradient(after.critic),
        host(after.actor.params),
        host(after.critic.params),
        _values(metrics),
    )


@pytest.mark.parametrize("shape", [SHAPES[-1], *(pytest.param(s, marks=pytest.mark.slow) for s in SHAPES[:-1])])
def test_a_ppo_iteration_is_the_same_on_any_mesh(shape):
    _assert_same_step(_ppo_iteration(shape), _ppo_iteration((1, 1, 1)))


@pytest.mark.slow
def test_micro_batches_of_ppo_on_a_mesh_are_the_whole_minibatch():
    _assert_same_step(_ppo_iteration((2, 2, 2), micro_batches=2), _ppo_iteration((1, 1, 1)))


@functools.cache
def _samples(shape, trained_on=None):
    """Ids and log-probabilities of samples: prefill, then decoding. The weights may come from another mesh."""
    mesh = _mesh(shape)
    engine = LocalEngine(_model(mesh), mesh, (CONFIG.decoder.vocab - 1,))  # a padding row: it never stops anything
    weights = engine.decode_params(_place(_mesh(trained_on or shape)))
    prompts = [prompt(i) for i in range(len(EXAMPLES))]
    rollout = engine.generate(weights, prompts, 2, SamplingConfig(max_new_tokens=6), 7)
    return rollout.tokens, rollout.logprobs


@pytest.mark.parametrize("shape", SHAPES)
def test_prefill_and_decoding_are_the_same_on_any_mesh(shape):
    tokens, logprobs = _samples(shape)
    expected_tokens, expected = _samples((1, 1, 1))
    np.testing.assert_array_equal(tokens, expected_tokens)
    np.testing.assert_allclose(logprobs, expected, rtol=1e-5, atol=1e-6)


def test_weights_trained_on_one_mesh_decode_on_another():
    tokens, logprobs = _samples((1, 4, 2), trained_on=(1, 8, 1))
    expected_tokens, expected = _samples((1, 1, 1))
    np.testing.assert_array_equal(tokens, expected_tokens)
    np.testing.assert_allclose(logprobs, expected, rtol=1e-5, atol=1e-6)


def test_a_mesh_axis_used_twice_is_refused():
    with pytest.raises(BadInput, match="twice"):
        param_shardings(CONFIG, CUT, Rules(mlp="fsdp"))
    with pytest.raises(BadInput, match="twice"):
        Rules(vocab="tensor", embed="tensor").spec(("vocab", "embed"))


def test_an_axis_that_does_not_divide_is_refused_by_name_and_size():
    boxed = {"x": nn.LogicallyPartitioned(jax.ShapeDtypeStruct((6, 10), np.float32), ("embed", "mlp"))}
    assert shardings(boxed, make_mesh(MeshConfig(2, 2, 2)), TRAINING)["x"].spec == P("fsdp", "tensor")
    with pytest.raises(BadInput, match=r"config\.mesh\.fsdp=4 does not divide the embed axis of size 6"):
        shardings(boxed, make_mesh(MeshConfig(2, 4, 1)), TRAINING)
    assert abstract_params(CONFIG).keys() == {"encoder", "adaptor", "decoder"}


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (MeshConfig(), (8, 1, 1)),
        (MeshConfig(2, 2, 2), (2, 2, 2)),
        (MeshConfig(2, -1, 2), (2, 2, 2)),
        (MeshConfig(1, 1, -1), (1, 1, 8)),
    ],
)
def test_a_mesh_is_filled(config, shape):
    mesh = make_mesh(config)
    assert tuple(mesh.shape.values()) == shape and mesh.axis_names == ("data", "fsdp", "tensor")
    assert mesh.size == len({d.id for d in mesh.devices.flat}) == 8


@pytest.mark.parametrize(
    "config",
    [
        MeshConfig(3, 1, 1),
        MeshConfig(-1, 3, 1),
        MeshConfig(-1, -1, 1),
        MeshConfig(2, 2, 1),
        MeshConfig(-1, 0, 1),
        MeshConfig(-2, -4, 1),
    ],
)
def test_a_mesh_that_does_not_fit_the_devices_is_refused(config):
    with pytest.raises(BadInput, match=r"config\.mesh.*8 devices"):
        make_mesh(config)


def test_more_tensor_ways_than_key_value_heads_are_refused():
    message = r"^config\.mesh\.tensor=4: the decoder's 2 key-value heads do not divide over 4 devices; use at most 2.*$"
    with pytest.raises(BadInput, match=message):
        AudioLM(CONFIG, make_mesh(MeshConfig(1, 2, 4)))
    AudioLM(CONFIG, make_mesh(MeshConfig(2, 2, 2)))


@dataclasses.dataclass(frozen=True)
class Chip:
    """As much of a TPU chip as the building of a mesh looks at."""

    id: int
    slice_index: int
    coords: tuple[int, int, int]
    platform: str = "tpu"
    device_kind: str = "TPU v5p"
    core_on_chip: int = 0
    process_index: int = 0


def _chips(slices: int) -> list[Chip]:
    """`slices` slices of 2 x 2 chips, in no order."""
    chips = [Chip(4 * s + i, s, (i % 2, i // 2, 0)) for s in range(slices) for i in range(4)]
    return [chips[i] for i in np.random.default_rng(0).permutation(len(chips))]


@pytest.mark.parametrize("config", [MeshConfig(-1, 4, 1), MeshConfig(2, 2, 2), MeshConfig(-1, 1, 2), MeshConfig(8)])
def test_slices_lie_one_after_another_along_data(config):
    chips = _chips(2)
    mesh = make_mesh(config, chips)
    assert {chip.id for chip in mesh.devices.flat} == set(range(8))
    # fsdp and tensor never cross from one slice to another, and neither does either half of data.
    first, second = np.split(np.vectorize(lambda chip: chip.slice_index)(mesh.devices), 2)
    assert (first == 0).all() and (second == 1).all()


@pytest.mark.parametrize("config, slices", [(MeshConfig(1, 8, 1), 2), (MeshConfig(-1, 4, 2), 2), (MeshConfig(2, 6), 3)])
def test_slices_that_data_does_not_hold_are_refused(config, slices):
    with pytest.raises(
        BadInput, match=rf"^config\.mesh: data=[12], but the devices are {slices} slices.*multiple of {slices}$"
    ):
        make_mesh(config, _chips(slices))


def test_rows_must_divide_over_the_devices_that_hold_rows():
    batch_rows_divide(CUT, 12, "rows")
    with pytest.raises(BadInput, match="rows=6 does not divide over 4"):
        batch_rows_divide(CUT, 6, "rows")
