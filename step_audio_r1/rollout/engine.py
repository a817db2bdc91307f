"""Our decoding engine: prefill once a prompt, share its KV cache among the samples, decode in a while loop.

Every random draw depends on (seed, prompt id, sample index, position) alone, not on what else is in the batch or how
the batch is cut. Only the padding may differ then, and with it the last bits of the logits.
"""

import functools
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from step_audio_r1.model import AudioLM, KVCache
from step_audio_r1.parallel import batch_sharding, replicated
from step_audio_r1.rollout.types import Prompt, Rollout, SamplingConfig

# Prompt lengths and row counts are rounded up, so that few programs are compiled.
LENGTH_BUCKET = 32
NEVER = -1e30


class LoopState(struct.PyTreeNode):
    """Decoding in flight: R rows, W ids in the end-of-think marker."""

    cache: KVCache
    logits: Float[Array, "R V"]  # of the next token
    keys: Any  # one PRNG key a row
    tokens: Int[Array, "R T"]
    logprobs: Float[Array, "R T"]
    t: Int[Array, ""]
    done: Bool[Array, "R"]
    lengths: Int[Array, "R"]
    recent: Int[Array, "R W"]  # the last W tokens
    closed: Bool[Array, "R"]  # the thinking has ended
    forced: Int[Array, "R"]  # how much of a forced marker is written


class LocalEngine:
    """Decodes on the devices of `mesh` with the training parameters, cast once a call (see `decode_params`)."""

    def __init__(
        self,
        model: AudioLM,
        mesh: Mesh,
        stop_ids: Sequence[int],
        close_ids: Sequence[int],
        max_rows: int = 256,
        homes: Any = None,
    ):
        """A decoder for one model and mesh.

        Args:
          model, mesh: what decodes, and where.
          stop_ids: any of them ends a sample.
          close_ids: what ends the thinking (`text.close_ids`).
          max_rows: samples decoded at once.
          homes: shardings of the parameters while decoding; None leaves them where they train.
        """
        self._model, self._mesh, self._max_rows = model, mesh, max_rows
        self._stop_ids, self._close_ids = tuple(stop_ids), tuple(close_ids)
        dtype = jnp.dtype(model.config.compute_dtype)
        # Cast first, then moved: half as many bytes travel.
        self._cast = jax.jit(lambda p: jax.tree.map(lambda x: x.astype(dtype), p), out_shardings=homes)

    def decode_params(self, params: Any) -> Any:
        """Parameters in the compute dtype, where decoding wants them, for many calls with the same weights."""
        return self._cast(params)

    def generate(
        self, params: Any, prompts: Sequence[Prompt], samples: int, sampling: SamplingConfig, seed: int
    ) -> Rollout:
        """Draws `samples` continuations of each prompt; see `Rollout` for the order of rows."""
        group = max(1, self._max_rows // samples)
        ways = self._mesh.shape["data"] * self._mesh.shape["fsdp"]
        group = -(-group // ways) * ways
        parts = []
        for at in range(0, len(prompts), group):
            piece = prompts[at : at + group]
            inputs = _pad_prompts(piece, -(-len(piece) // ways) * ways if len(prompts) < group else group)
            state = self._run(self._put(params, inputs), samples, sampling, seed)
            rows = len(piece) * samples
            parts.append([np.asarray(x)[:rows] for x in jax.device_get(state)])
        tokens, lengths, logprobs, done = (np.concatenate(x) for x in zip(*parts))
        reasons = tuple("stop" if d else "length" for d in done)
        return Rollout(tokens, lengths, logprobs, reasons, samples)

    def stream(self, params: Any, prompt: Prompt, sampling: SamplingConfig, seed: int) -> Iterator[int]:
        """Continues one prompt and yields each token id as it comes, the stop token left out."""
        args = self._put(params, _pad_prompts([prompt], self._mesh.shape["data"] * self._mesh.shape["fsdp"]))
        state = self._start(*args, np.uint32(seed), samples=1, sampling=sampling)
        for t in range(sampling.max_new_tokens):
            state = self._advance_once(args[0], state, sampling=sampling)
            token = int(state.tokens[0, t])
            if token in self._stop_ids:
                return
            yield token

    def _put(self, params: Any, inputs: dict[str, np.ndarray]) -> tuple[Any, dict[str, Array]]:
        sharding = batch_sharding(self._mesh)
        return params, {
            name: jax.make_array_from_callback(x.shape, sharding, lambda i, x=x: x[i]) for name, x in inputs.items()
        }

    def _run(self, args: tuple, samples: int, sampling: SamplingConfig, seed: int):
        return self._generate(*args, np.uint32(seed), samples=samples, sampling=sampling)

    @functools.partial(jax.jit, static_argnames=("self", "samples", "sampling"))
    def _generate(self, params, inputs, seed, *, samples, sampling):
        state = self._begin(params, inputs, seed, samples, sampling)
        state = jax.lax.while_loop(
            lambda s: (s.t < sampling.max_new_tokens) & ~s.done.all(),
            lambda s: self._advance(params, s, sampling),
            state,
        )
        # Whole on every device: each host reads all rows.
        return jax.lax.with_sharding_constraint(
            (state.tokens, state.lengths, state.logprobs, state.done), replicated(self._mesh)
        )

    @functools.partial(jax.jit, static_argnames=("self", "samples", "sampling"))
    def _start(self, params, inputs, seed, *, samples, sampling):
        return self._begin(params, inputs, seed, samples, sampling)

    @functools.partial(jax.jit, static_argnames=("self", "sampling"), donate_argnames="state")
    def _advance_once(self, params, state, *, sampling):
        return self._advance(params, state, sampling)

    def _begin(self, params, inputs, seed, samples: int, sampling: SamplingConfig) -> LoopState:
        """Prefill of each prompt, then its cache and logits repeated for its samples."""
        config = self._model.config
        P, T = inputs["tokens"].shape
        dtype = jnp.dtype(config.compute_dtype)
        cache = KVCache.empty(config.decoder, P, T + sampling.max_new_tokens, dtype)
        logits, cache = self._model.apply(
            {"params": params},
            inputs["tokens"],
            inputs["valid"],
            inputs["audio_slots"],
            inputs["features"],
            cache,
            method="extend",
        )
        cache = KVCache(
            jnp.repeat(cache.k, samples, axis=1),
            jnp.repeat(cache.v, samples, axis=1),
            jnp.repeat(cache.lengths, samples),
        )
        base = jax.random.key(seed)
        prompt_keys = jax.vmap(lambda i: jax.random.fold_in(base, i))(inputs["ids"])
        keys = jax.vmap(lambda k: jax.vmap(lambda g: jax.random.fold_in(k, g))(jnp.arange(samples)))(prompt_keys)
        R = P * samples
        return LoopState(
            cache=cache,
            logits=jnp.repeat(logits, samples, axis=0),
            keys=keys.reshape(R),
            tokens=jnp.zeros((R, sampling.max_new_tokens), jnp.int32),
            logprobs=jnp.zeros((R, sampling.max_new_tokens), jnp.float32),
            t=jnp.int32(0),
            done=jnp.repeat(~inputs["valid"].any(1), samples),
            lengths=jnp.zeros((R,), jnp.int32),
            recent=jnp.full((R, len(self._close_ids)), -1, jnp.int32),
            closed=jnp.zeros((R,), bool),
            forced=jnp.zeros((R,), jnp.int32),
        )

    def _advance(self, params, s: LoopState, sampling: SamplingConfig) -> LoopState:
        """Draws one token for every row that is not done, then runs the model on it."""
        stop = jnp.array(self._stop_ids)
        close = jnp.array(self._close_ids)
        logprobs_RV = jax.nn.log_softmax(s.logits, axis=-1)
        token = _draw(self._restrict(s, sampling), s.keys, s.t, sampling)
        forced = s.forced
        if sampling.thinking_budget is not None:
            begins = ~s.closed & (s.t >= sampling.thinking_budget)
            # A marker that the model has begun by itself is finished, not written twice.
            forced = jnp.where(begins & (forced == 0), _begun(s.recent, self._close_ids), forced)
            token = jnp.where(begins, close[jnp.minimum(forced, len(self._close_ids) - 1)], token)
            forced = jnp.where(begins, forced + 1, forced)
        token = jnp.where(s.done, 0, token)
        logprob = jnp.take_along_axis(logprobs_RV, token[:, None], axis=1)[:, 0]
        recent = jnp.concatenate([s.recent[:, 1:], token[:, None]], axis=1)
        # A forced marker is complete when all of it is written, even if the tokens before it look like its start.
        closed = s.closed | jnp.where(forced > 0, forced == len(self._close_ids), (recent == close).all(1))
        live = ~s.done
        logits, cache = self._model.apply(
            {"params": params},
            token[:, None],
            live[:, None],
            jnp.full_like(token[:, None], -1),
            jnp.zeros((token.shape[0], 0, 1, 1), s.logits.dtype),
            s.cache,
            method="extend",
        )
        return s.replace(
            cache=cache,
            logits=logits,
            tokens=s.tokens.at[:, s.t].set(token),
            logprobs=s.logprobs.at[:, s.t].set(jnp.where(live, logprob, 0.0)),
            t=s.t + 1,
            done=s.done | (token[:, None] == stop).any(1),
            lengths=s.lengths + live,
            recent=recent,
            closed=closed,
            forced=forced,
        )

    def _restrict(self, s: LoopState, sampling: SamplingConfig) -> Float[Array, "R V"]:
        """Logits without the tokens that would end the thinking too early."""
        if sampling.min_think_tokens == 0:
            return s.logits
        banned = jnp.zeros((s.logits.shape[1],), bool)
        banned = banned.at[jnp.array(self._close_ids + self._stop_ids)].set(True)
        early = s.t < sampling.min_think_tokens
        return jnp.where(early & banned[None], NEVER, s.logits)


def _begun(recent_RW: Int[Array, "R W"], close_ids: tuple[int, ...]) -> Int[Array, "R"]:
    """How many tokens of the marker the last tokens already are (less than all of them)."""
    W = len(close_ids)
    begun = jnp.zeros(recent_RW.shape[0], jnp.int32)
    for k in range(1, W):
        begun = jnp.where((recent_RW[:, W - k :] == jnp.array(close_ids[:k])).all(1), k, begun)
    return begun


def _draw(logits_RV, keys, t, sampling: SamplingConfig) -> Int[Array, "R"]:
    """Greedy at temperature 0, else a Gumbel draw from each row's own key at position t."""
    if sampling.temperature == 0:
        return logits_RV.argmax(-1).astype(jnp.int32)
    z = logits_RV / sampling.temperature
    if sampling.top_k:
        smallest = jax.lax.top_k(z, sampling.top_k)[0][:, -1:]
        z = jnp.where(z < smallest, NEVER, z)
    if sampling.top_p < 1:
        ordered = jnp.sort(z, axis=-1)[:, ::-1]
        mass_before = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1) - jax.nn.softmax(ordered, axis=-1)
        kept = (mass_before < sampling.top_p).sum(-1, keepdims=True)
        z = jnp.where(z < jnp.take_along_axis(ordered, kept - 1, axis=-1), NEVER, z)
    step_keys = jax.vmap(lambda k: jax.random.fold_in(k, t))(keys)
    gumbel = jax.vmap(lambda k: jax.random.gumbel(k, z.shape[1:], jnp.float32))(step_keys)
    return (z + gumbel).argmax(-1).astype(jnp.int32)


def _pad_prompts(prompts: Sequence[Prompt], rows: int) -> dict[str, np.ndarray]:
    """Prompts as rectangular arrays of `rows` rows; surplus rows have no valid token and are done at once."""
    T = max(len(p.tokens) for p in prompts)
    T = -(-T // LENGTH_BUCKET) * LENGTH_BUCKET
    N = max(len(p.features) for p in prompts)
    S, E = prompts[0].features.shape[1:]
    out = {
        "tokens": np.zeros((rows, T), np.int32),
        "valid": np.zeros((rows, T), bool),
        "audio_slots": np.full((rows, T), -1, np.int32),
        "features": np.zeros((rows, N, S, E), np.float16),
        "ids": np.zeros(rows, np.uint32),
    }
    for i, prompt in enumerate(prompts):
        n = len(prompt.tokens)
        out["tokens"][i, :n] = prompt.tokens
        out["valid"][i, :n] = True
        out["audio_slots"][i, :n] = prompt.audio_slots
        out["features"][i, : len(prompt.features)] = prompt.features
        out["ids"][i] = zlib.crc32(prompt.id.encode())
    return out
