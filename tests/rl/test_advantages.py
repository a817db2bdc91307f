"""Promise: advantages are the textbook's, in float32, on response tokens only; the losses clip where they should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_r1.errors import BadInput
from step_audio_r1.rl import gae, normalise, policy_terms, rollout_batch, terminal_rewards, value_terms
from step_audio_r1.rollout import Rollout
from tests.train.small_model import prompt

R, T = 6, 9
# Responses of lengths 9, 1, 0, 4, 8, 3 at different starts, as prompts of different lengths make them.
SPANS = [(0, 9), (5, 6), (3, 3), (2, 6), (1, 9), (6, 9)]


def _mask() -> np.ndarray:
    mask = np.zeros((R, T), np.float32)
    for r, (a, b) in enumerate(SPANS):
        mask[r, a:b] = 1
    return mask


def _textbook(rewards, values, mask, gamma, lam):
    """GAE as a sum over futures, straight from the definition: A_t = sum_k (gamma lam)^k delta_{t+k}."""
    advantages = np.zeros((R, T))
    for r in range(R):
        steps = np.nonzero(mask[r])[0]
        for i, t in enumerate(steps):
            for k, s in enumerate(steps[i:]):
                following = values[r, steps[i + k + 1]] if i + k + 1 < len(steps) else 0.0
                delta = rewards[r, s] + gamma * following - values[r, s]
                advantages[r, t] += (gamma * lam) ** k * delta
    return advantages


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (1.0, 0.9), (0.95, 1.0), (0.9, 0.5), (0.99, 0.0)])
def test_gae_is_the_textbooks(gamma, lam):
    rng = np.random.default_rng(0)
    mask, values = _mask(), rng.normal(size=(R, T)).astype(np.float32)
    rewards = rng.normal(size=(R, T)).astype(np.float32) * mask
    advantages, targets = gae(rewards, values, mask, gamma, lam)
    expected = _textbook(rewards, values, mask, gamma, lam)
    np.testing.assert_allclose(advantages, expected, atol=1e-5)
    np.testing.assert_allclose(targets, (expected + values) * mask, atol=1e-5)
    assert advantages.dtype == targets.dtype == jnp.float32


def test_without_discount_the_advantage_is_the_reward_minus_the_value():
    rng = np.random.default_rng(1)
    mask, values, rewards = _mask(), rng.normal(size=(R, T)), rng.uniform(size=R).astype(np.float32)
    advantages, targets = gae(terminal_rewards(rewards, mask), values, mask)
    np.testing.assert_allclose(advantages, (rewards[:, None] - values) * mask, atol=1e-5)
    np.testing.assert_allclose(targets, rewards[:, None] * mask, atol=1e-5)


def test_fractions_of_a_reward_survive():
    mask = np.ones((4, 3), np.float32)
    rewards = np.array([0.0, 0.2, 0.8, 1.0], np.float32)
    placed = terminal_rewards(rewards, mask)
    advantages, _ = gae(placed, np.zeros((4, 3), np.float32), mask)
    assert placed.dtype == advantages.dtype == jnp.float32
    np.testing.assert_allclose(advantages[:, 0], rewards, rtol=1e-6)
    # Even half precision that comes in by mistake is widened before it is added up.
    low, _ = gae(placed.astype(jnp.bfloat16), jnp.zeros((4, 3), jnp.bfloat16), mask)
    assert low.dtype == jnp.float32


def test_reward_stands_on_the_last_sampled_token():
    placed = np.asarray(terminal_rewards(np.arange(1.0, R + 1, dtype=np.float32), _mask()))
    for r, (a, b) in enumerate(SPANS):
        expected = np.zeros(T)
        if b > a:
            expected[b - 1] = r + 1
        np.testing.assert_array_equal(placed[r], expected)


def test_normalisation_is_over_all_response_tokens_and_nothing_else():
    rng = np.random.default_rng(2)
    mask = _mask()
    x = (3 + 2 * rng.normal(size=(R, T))).astype(np.float32)
    x[mask == 0] = 1e6  # what stands off the mask must not count
    y = np.asarray(jax.jit(normalise)(x, mask))
    inside = x[mask == 1]
    np.testing.assert_allclose(y[mask == 1], (inside - inside.mean()) / inside.std(), rtol=1e-4)
    assert not y[mask == 0].any()
    # Global: the mean of a long row weighs more than that of a short one, and no row is centred by itself.
    assert abs(y[0].sum()) > 1e-3
    same = np.asarray(normalise(np.full((R, T), 0.7, np.float32), mask))
    assert np.abs(same).max() < 1e-2 and np.isfinite(same).all()
    assert not np.asarray(normalise(x, np.zeros((R, T), np.float32))).any()


# ratio, advantage -> loss, does the clip decide (clip 0.2)
POLICY_TABLE = [
    (1.0, 2.0, -2.0, 0),
    (1.5, 2.0, -2.4, 1),
    (1.1, 2.0, -2.2, 0),
    (0.5, 2.0, -1.0, 0),
    (1.0, -2.0, 2.0, 0),
    (1.5, -2.0, 3.0, 0),
    (0.9, -2.0, 1.8, 0),
    (0.5, -2.0, 1.6, 1),
    (1.5, 0.0, 0.0, 0),
]


def test_policy_clip_by_hand():
    ratio, advantage, loss, clipped = (np.array([x], np.float32) for x in zip(*POLICY_TABLE))
    old = np.full_like(ratio, -1.3)
    ones = np.ones_like(ratio)
    terms = policy_terms(old + np.log(ratio), old, advantage, ones, 0.2)
    np.testing.assert_allclose(terms.loss, loss, rtol=1e-5)
    np.testing.assert_allclose(terms.ratio, ratio, rtol=1e-5)
    np.testing.assert_array_equal(terms.clipped, clipped)
    # Where the clip decides, nothing pulls the policy any further.
    gradient = jax.grad(lambda logp: policy_terms(logp, old, advantage, ones, 0.2).loss.sum())(old + np.log(ratio))
    np.testing.assert_allclose(gradient, np.where(clipped, 0, -ratio * advantage), rtol=1e-5, atol=1e-7)


def test_nothing_off_the_mask_can_break_the_policy_loss():
    logp = np.array([[0.0, -1e30, 500.0]], np.float32)
    mask = np.array([[1.0, 0.0, 0.0]], np.float32)

    def loss(x):
        return policy_terms(x, np.zeros_like(logp), np.ones_like(logp), mask, 0.2).loss.sum()

    assert float(loss(logp)) == -1.0
    np.testing.assert_array_equal(jax.grad(loss)(logp), [[-1.0, 0.0, 0.0]])


# value, old value, target -> loss (clip 0.2): half the worse of the two squared errors
VALUE_TABLE = [
    (0.5, 0.5, 1.0, 0.125),
    (0.9, 0.5, 1.0, 0.045),  # moved past the clip towards the target: the clipped 0.7 is worse
    (0.1, 0.5, 1.0, 0.405),  # moved away from it: the value itself is worse
    (0.6, 0.5, 0.0, 0.18),
    (2.0, 0.5, 1.0, 0.5),
]


def test_value_clip_by_hand():
    value, old, target, loss = (np.array([x], np.float32) for x in zip(*VALUE_TABLE))
    np.testing.assert_allclose(value_terms(value, old, target, np.ones_like(value), 0.2), loss, rtol=1e-5)
    assert not np.asarray(value_terms(value, old, target, np.zeros_like(value), 0.2)).any()


def _rollout(lengths, token=5) -> Rollout:
    rows, longest = len(lengths), 4
    tokens = np.where(np.arange(longest) < np.array(lengths)[:, None], token, 0).astype(np.int32)
    return Rollout(tokens, np.array(lengths, np.int32), np.full((rows, longest), -1.0, np.float32), ("stop",) * rows, 2)


@pytest.mark.parametrize("token", [5, 0])
def test_rows_of_a_rollout_are_masked_by_length(token):
    """A row cut off without a stop token, a row of none, and tokens that look like padding."""
    prompts, lengths = [prompt(0), prompt(1)], [4, 1, 0, 3]
    rewards, usable = np.array([0.2, 0.8, 1.0, np.nan], np.float32), np.array([True, True, True, False])
    rows = rollout_batch(prompts, _rollout(lengths, token), rewards, usable, 40)
    assert rows.tokens.shape == (4, 64)
    for r, length in enumerate(lengths):
        start = len(prompts[r // 2].tokens)
        expected = np.zeros(64, np.float32)
        expected[start : start + length] = usable[r]
        np.testing.assert_array_equal(rows.mask[r], expected)
        np.testing.assert_array_equal(rows.segment_ids[r], np.arange(64) < start + length)
        np.testing.assert_array_equal(rows.tokens[r, start : start + length], [token] * length)
        np.testing.assert_array_equal(rows.audio_slots[r, :start], prompts[r // 2].audio_slots)
        assert (rows.audio_slots[r, start:] == -1).all()
        np.testing.assert_array_equal(rows.features[r, : 1 - r // 2], prompts[r // 2].features)
        np.testing.assert_array_equal(rows.sampler_logp[r, start : start + length], [-1.0] * length)
    np.testing.assert_array_equal(rows.rewards, np.array([0.2, 0.8, 1.0, 0.0], np.float32))


def test_rewards_of_another_type_and_rows_too_long_are_refused():
    usable = np.ones(4, bool)
    for wrong in (np.array([0, 1, 0, 1]), np.array([0.2, 0.8, 0.0, 1.0])):
        with pytest.raises(TypeError, match="float32"):
            rollout_batch([prompt(0), prompt(1)], _rollout([1] * 4), wrong, usable, 32)
    with pytest.raises(BadInput, match="max_tokens"):
        rollout_batch([prompt(0), prompt(2)], _rollout([4] * 4), np.zeros(4, np.float32), usable, 32)
