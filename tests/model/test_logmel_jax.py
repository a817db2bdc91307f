"""Promise: the jitted log-mel of a batch is `log_mel` of every chunk on its own, and zeros beyond."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_r1.audio import log_mel, mel_frames
from step_audio_r1.model.ops import logmel
from step_audio_r1.model.ops.logmel import log_mel_batch

# On a CPU both paths run the same FFT: their float32 power spectra agree to the bit or nearly, and what is left are
# roundings of the sums over filters and of logarithms, 2.4e-7 at values near 2. A spectrum that is merely as good would
# not be held to this: float32 leaves an error of 1e-7 of a frame's loudest bin in all its bins, and 80 dB below it, at
# the floor, that is 1e-3 of an amplitude and 2e-4 here. The matrix product of accelerators is such a one.
TOLERANCE = 1e-6
MATMUL_TOLERANCE = 5e-4

jitted = jax.jit(log_mel_batch, static_argnames="n_mels")


def sound(n, seed=0):
    """A tone through a chirp with some noise: f32[n]."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / 16000
    tone = np.sin(2 * np.pi * rng.uniform(100, 7000) * t)
    return (0.4 * tone + 0.2 * np.sin(2 * np.pi * 900 * t**2) + 0.01 * rng.standard_normal(n)).astype(np.float32)


def batch(lengths, width, beyond=0.0):
    """Sounds of these lengths in f32[N, width]; `beyond` fills what follows them."""
    rows = np.full((len(lengths), width), beyond, np.float32)
    for i, n in enumerate(lengths):
        rows[i, :n] = sound(n, i)
    return rows


def check(waveforms, lengths, tolerance=TOLERANCE, n_mels=128, run=jitted):
    mel, frames = map(np.asarray, run(waveforms, np.array(lengths, np.int32), n_mels=n_mels))
    assert mel.dtype == np.float32 and frames.dtype == np.int32
    assert mel.shape == (len(lengths), mel_frames(waveforms.shape[1]), n_mels)
    assert frames.tolist() == [mel_frames(n) if n else 0 for n in lengths]
    for i, n in enumerate(lengths):
        assert not mel[i, frames[i] :].any()
        if n:
            np.testing.assert_allclose(mel[i, : frames[i]], log_mel(waveforms[i, :n], n_mels), rtol=0, atol=tolerance)


# Around whole hops and whole tokens, where the reflection meets the end, and around whole blocks of 64 frames.
LENGTHS = [1, 2, 159, 160, 161, 199, 200, 201, 320, 321, 399, 400, 1000, 1279, 1280, 1281, 10080, 10081, 10241, 20321]


@pytest.mark.parametrize("n", LENGTHS)
def test_one_chunk_of_exactly_its_length(n):
    check(batch([n], n), [n])


@pytest.mark.parametrize("beyond", [0.0, 3.0, np.nan])
def test_many_lengths_in_a_batch_whatever_follows_them(beyond):
    lengths = [*LENGTHS, 400_000]
    check(batch(lengths, 400_000, beyond), lengths)


def test_every_length_up_to_a_few_frames():
    lengths = list(range(1, 701))
    check(batch(lengths, 700), lengths)


@pytest.mark.parametrize("n_mels", [16, 80])
def test_other_numbers_of_bins(n_mels):
    check(batch([16000, 7], 16000), [16000, 7], n_mels=n_mels)


def test_silence_dc_a_click_and_faint_noise():
    n = 16000
    waveforms = np.zeros((4, n), np.float32)
    waveforms[1], waveforms[2, n // 2] = 0.7, 1.0
    waveforms[3] = 1e-5 * np.random.default_rng(0).standard_normal(n)
    check(waveforms, [n] * 4)
    mel, _ = jitted(waveforms, np.array([n] * 4))
    np.testing.assert_allclose(mel[0], -1.5, atol=1e-6)


def test_an_unused_row_gets_no_frames():
    check(batch([1000, 0], 1000, beyond=np.nan), [1000, 0])


def test_a_row_does_not_change_with_its_neighbours():
    rows = batch([5000, 20_000], 20_000)
    alone, _ = jitted(rows[:1], np.array([5000]))
    rows[1] *= 100
    together, _ = jitted(rows, np.array([5000, 20_000]))
    np.testing.assert_array_equal(alone[0], together[0])


def by_matmul(monkeypatch):
    """Jitted anew with the spectrum as accelerators make it."""
    monkeypatch.setattr(logmel, "_power", logmel._power_by_matmul)
    return jax.jit(lambda x, n, n_mels=128: log_mel_batch(x, n, n_mels), static_argnames="n_mels")


def test_the_matrix_product_of_accelerators(monkeypatch):
    lengths = [1, 321, 1000, 16000, 100_000]
    check(batch(lengths, 100_000), lengths, MATMUL_TOLERANCE, run=by_matmul(monkeypatch))


def test_a_sharded_batch_stays_sharded(monkeypatch):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    home = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    lengths = [16000, 1, 321, 9000] * 4
    waveforms = batch(lengths, 16000)
    placed = jax.device_put(waveforms, home), jax.device_put(jnp.array(lengths, jnp.int32), home)
    compiled = by_matmul(monkeypatch).lower(*placed).compile()
    assert "all-gather" not in compiled.as_text()
    mel, frames = compiled(*placed)
    assert mel.sharding.is_equivalent_to(home, 3) and frames.sharding.is_equivalent_to(home, 1)
    check(waveforms, lengths, MATMUL_TOLERANCE, run=lambda *_, n_mels: (mel, frames))
