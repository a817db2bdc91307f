"""Log-mel frames of a batch of chunks, jitted: the twin of `log_mel` in the audio room, for sound on a device."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from step_audio_r1.audio import HOP, N_FFT, N_MELS, POWER_FLOOR, hann_window, mel_filters, mel_frames

# Frames of each chunk that are made at a time, at most. A CPU is two to three times as fast on blocks that fit its
# cache; it is time that is cut and not the batch, so that the batch can be sharded.
_BLOCK = 64
_HOPS = -(-N_FFT // HOP)  # hops that a frame touches


def log_mel_batch(
    waveforms_NL: Float[Array, "N L"], lengths_N: Int[Array, "N"], n_mels: int = N_MELS
) -> tuple[Float[Array, "N F M"], Int[Array, "N"]]:
    """Log-mel frames of N chunks of different lengths.

    Every row is what `log_mel` makes of its own first `lengths_N[n]` samples, whatever follows them: its own 479 zeros,
    its own maximum. Of the reflections only the left one is written out: all that the right one touches is zeros.

    Args:
      waveforms_NL: f32 at 16 kHz, L >= 1.
      lengths_N: int32, samples of each chunk, at most L; 0 marks an unused row, which gets no frames.
      n_mels: mel bins M; static under `jax.jit`.

    Returns:
      mel f32[N, F, M] with F = (L + 479) // 160, 0.0 past each row's own frames, as the encoder wants it; and those
      frames int32[N], (lengths + 479) // 160. The greatest difference to `log_mel` is 1e-6 on CPU; where the spectrum
      is a matrix product it is 3e-4, for bins at the floor of a loud tone, and 1e-4 for noise.

    Source: as `log_mel`.
    """
    (N, L), half = waveforms_NL.shape, N_FFT // 2
    F = mel_frames(L)
    blocks = -(-F // _BLOCK)
    size = -(-F // blocks)  # even blocks, so that only the first reaches over the beginning
    width = (size + _HOPS - 1) * HOP
    x_NL = jnp.pad(waveforms_NL.astype(jnp.float32), ((0, 0), (0, max(0, width - L))))
    reflected = jnp.where(jnp.arange(half, 0, -1) < lengths_N[:, None], x_NL[:, half:0:-1], 0)
    window, filters = hann_window(), mel_filters(n_mels)

    def log_bins(start: Int[Array, ""]) -> Float[Array, "N f M"]:
        # A copy of the whole batch with its ends padded would cost as much as the transform: the samples are taken from
        # where there are some and rolled into place. What comes round is masked, or lies where the reflection belongs.
        first = start * HOP - half
        at = jnp.clip(first, 0, x_NL.shape[1] - width)
        x = jnp.roll(jax.lax.dynamic_slice_in_dim(x_NL, at, width, axis=1), at - first, axis=1)
        x = jnp.where(first + jnp.arange(width) < lengths_N[:, None], x, 0)
        x = x.at[:, :half].set(jnp.where(start == 0, reflected, x[:, :half]))
        hops = x.reshape(N, -1, HOP)
        frames = jnp.concatenate([hops[:, i : i + size, : N_FFT - i * HOP] for i in range(_HOPS)], axis=2)
        bins = jnp.dot(_power(frames * window), filters, precision=jax.lax.Precision.HIGHEST)
        return jnp.log10(jnp.maximum(bins, POWER_FLOOR))

    def fill(block: Int[Array, ""], bins_NFM: Float[Array, "N F M"]) -> Float[Array, "N F M"]:
        start = jnp.minimum(block * size, F - size)  # the last block overlaps the one before
        return jax.lax.dynamic_update_slice_in_dim(bins_NFM, log_bins(start), start, axis=1)

    bins_NFM = jax.lax.fori_loop(0, blocks, fill, jnp.zeros((N, F, n_mels)))
    # Frames past a row's own lie wholly past its samples: they are at the very floor and raise no maximum.
    mel_NFM = (jnp.maximum(bins_NFM, jnp.max(bins_NFM, axis=(1, 2), keepdims=True) - 8) + 4) / 4
    frames_N = jnp.where(lengths_N > 0, mel_frames(lengths_N), 0)
    return jnp.where((jnp.arange(F) < frames_N[:, None])[..., None], mel_NFM, 0), frames_N


def _power(frames: Float[Array, "N f n"]) -> Float[Array, "N f bins"]:
    """Power spectra |X|^2 of windowed frames of 400 samples, 201 bins."""
    return jax.lax.platform_dependent(frames, cpu=_power_by_fft, default=_power_by_matmul)


def _power_by_fft(frames: Float[Array, "N f n"]) -> Float[Array, "N f bins"]:
    """For CPU: the fastest there, and as exact as `log_mel`."""
    spectrum = jnp.fft.rfft(frames)
    return jnp.square(spectrum.real) + jnp.square(spectrum.imag)


def _power_by_matmul(frames: Float[Array, "N f n"]) -> Float[Array, "N f bins"]:
    """For accelerators. Of a sharded batch an FFT would first be gathered; on TPU it also takes twice the cycles."""
    angle = 2 * np.pi / N_FFT * (np.outer(np.arange(N_FFT), np.arange(N_FFT // 2 + 1)) % N_FFT)
    waves = np.concatenate([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    spectrum = jnp.dot(frames, waves, precision=jax.lax.Precision.HIGHEST)
    real, imaginary = jnp.split(spectrum, 2, axis=-1)
    return jnp.square(real) + jnp.square(imaginary)
