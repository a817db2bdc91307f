"""What the package computes for the cases."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_r1.audio import TokenCount, log_mel
from step_audio_r1.model import AudioLM, ModelConfig
from step_audio_r1.model.ops.head import logits
from step_audio_r1.parallel import MeshConfig, make_mesh
from step_audio_r1.rollout import LocalEngine, Prompt, SamplingConfig
from tests.golden import weights
from tests.golden.cases import NEW_TOKENS, VOCAB, Conversation, Rows


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(method, config: ModelConfig, params, *arguments):
    return AudioLM(config).apply({"params": params}, *arguments, method=method)


def _encode(model: AudioLM, mel_NFM, lengths_N):
    return model.encode(mel_NFM, lengths_N)


def _adapt(model: AudioLM, features_NSE):
    return model.adaptor(features_NSE)


def _logits(model: AudioLM, tokens_BT, slots_BT, features_BNSE, positions_BT, segments_BT):
    h_BTD = model.hidden(tokens_BT, slots_BT, features_BNSE, positions_BT, segments_BT)
    return logits(h_BTD, model.decoder.head_kernel(), model.config.decoder.real_vocab)


def _answer(model: AudioLM, mel_NFM, lengths_N, tokens_1T, slots_1T):
    features_1NSE = model.encode(mel_NFM, lengths_N)[None]
    positions_1T = jnp.arange(tokens_1T.shape[1])[None]
    return _logits(model, tokens_1T, slots_1T, features_1NSE, positions_1T, jnp.ones_like(tokens_1T))


def decoder_logits(config: ModelConfig, rows: Rows, dtype: Literal["float32", "bfloat16"] = "float32") -> np.ndarray:
    """float32 logits [B, T, V], computed in `dtype`."""
    no_audio = np.full_like(rows.tokens, -1), np.zeros((len(rows.tokens), 0, 1, 1), np.float32)
    arguments = (rows.tokens, *no_audio, rows.positions, rows.segments)
    params = weights.params(config, ("decoder",))
    return np.asarray(_run(_logits, dataclasses.replace(config, compute_dtype=dtype), params, *arguments))


def encode(
    config: ModelConfig, mel_NFM: np.ndarray, lengths: tuple[int, ...], count: TokenCount = "hf"
) -> list[np.ndarray]:
    """Features [S, E] of each chunk, encoded together; those past a chunk's end, all zero, are left out."""
    params = weights.params(config, ("encoder",))
    config = dataclasses.replace(config, token_count=count)
    features = np.asarray(_run(_encode, config, params, mel_NFM, np.array(lengths)))
    ends = [(n + 1) // 2 // 2 for n in lengths]
    assert not any(x[end:].any() for x, end in zip(features, ends))
    return [x[:end] for x, end in zip(features, ends)]


def adapt(config: ModelConfig, features_NSE: np.ndarray) -> np.ndarray:
    """Audio embeddings [N, A, D]."""
    return np.asarray(_run(_adapt, config, weights.params(config, ("adaptor",)), features_NSE))


def _heard(talk: Conversation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mel [N, F, M], mel lengths [N], audio slots [T])."""
    mels = [log_mel(wave) for wave in talk.sounds]
    lengths = np.array([len(mel) for mel in mels])
    longest = lengths.max()
    batch = np.stack([np.pad(mel, ((0, longest - len(mel)), (0, 0))) for mel in mels])
    slots_a_chunk = ((longest + 1) // 2 // 2 + 1) // 2
    return batch, lengths, np.where(talk.chunks < 0, -1, talk.chunks * slots_a_chunk + talk.offsets)


def answer_logits(config: ModelConfig, talk: Conversation) -> np.ndarray:
    """float32 logits [T, V] of the whole model, from the waveforms on."""
    batch, lengths, slots = _heard(talk)
    return np.asarray(_run(_answer, config, weights.params(config), batch, lengths, talk.tokens[None], slots[None]))[0]


def greedy(config: ModelConfig, prompts: Sequence[np.ndarray]) -> np.ndarray:
    """Greedy continuations int32[P, 64] by the decoding engine."""
    silence = np.zeros((0, 1, 1), np.float16)
    rows = [Prompt(str(i), p, np.full_like(p, -1), silence) for i, p in enumerate(prompts)]
    return _continue(config, weights.params(config, ("decoder",)), rows)


def greedy_answer(config: ModelConfig, talk: Conversation) -> np.ndarray:
    """The same for two recordings with text around them: int32[1, 64]."""
    batch, lengths, slots = _heard(talk)
    params = weights.params(config)
    features = np.asarray(_run(_encode, config, params, batch, lengths)).astype(np.float16)  # as prompts carry them
    return _continue(config, params, [Prompt("talk", talk.tokens, slots, features)])


def _continue(config: ModelConfig, params: dict, prompts: Sequence[Prompt]) -> np.ndarray:
    one_device = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    engine = LocalEngine(AudioLM(config), one_device, stop_ids=(VOCAB,))  # no such token: nothing stops a sample
    sampling = SamplingConfig(max_new_tokens=NEW_TOKENS, temperature=0)
    return engine.generate(engine.decode_params(params), prompts, 1, sampling, seed=0).tokens
