"""What is compared with the reference implementations: sizes, token rows, sounds, prompts. NumPy only."""

import dataclasses
from typing import NamedTuple

import numpy as np

from step_audio_r1.audio import audio_tokens
from step_audio_r1.model import DecoderConfig, EncoderConfig, ModelConfig

VOCAB = 61
ENCODER = EncoderConfig(mel_bins=128, d_model=48, layers=2, heads=4, ffn=80)


def _model(name: str, **decoder) -> ModelConfig:
    return ModelConfig(
        name=name,
        encoder=ENCODER,
        decoder=DecoderConfig(vocab=VOCAB, **decoder),
        adaptor_hidden=40,
        compute_dtype="float32",
        remat="none",
    )


# By query heads a key head. The angles and the epsilon are those of the models named, the widths are small.
MODELS = {
    model.name: model
    for model in (
        _model("1_tied", d_model=40, layers=2, heads=3, kv_heads=3, head_dim=16, ffn=56, rope_theta=1e4, tied=True),
        # the miniature
        _model("2", d_model=48, layers=3, heads=4, kv_heads=2, head_dim=32, ffn=72, rope_theta=1e4),
        # Step-Audio-R1, 33B
        _model("5", d_model=64, layers=2, heads=10, kv_heads=2, head_dim=128, ffn=96, rms_eps=1e-5),
        # Step-Audio-2-mini, 8B
        _model("7", d_model=56, layers=2, heads=7, kv_heads=1, head_dim=128, ffn=88),
        # Qwen2.5-0.5B
        _model("7_tied", d_model=64, layers=2, heads=14, kv_heads=2, head_dim=64, ffn=96, tied=True),
    )
}

PUBLIC = MODELS["5"]  # the one on which encoder and adaptor are compared
WHOLE = ("5", "7_tied")  # those that hear and answer

# (head dim, theta)
FREQUENCIES = ((32, 1e4), (64, 1e6), (128, 1e6))


class Rows(NamedTuple):
    """Token rows; a segment id of 0 is padding."""

    tokens: np.ndarray  # int32[B, T]
    positions: np.ndarray  # int32[B, T]
    segments: np.ndarray  # int32[B, T]


def _rows(positions: np.ndarray, segments: np.ndarray) -> Rows:
    tokens = np.random.RandomState(positions.size).randint(0, VOCAB, positions.shape)
    return Rows(*(x.astype(np.int32) for x in (tokens, np.where(segments > 0, positions, 0), segments)))


def _padded(lengths: tuple[int, ...], left: bool) -> Rows:
    B, T = len(lengths), max(lengths)
    starts = (T - np.array(lengths) if left else np.zeros(B, int))[:, None]
    offsets = np.broadcast_to(np.arange(T), (B, T)) - starts
    return _rows(offsets, (offsets >= 0) & (offsets < np.array(lengths)[:, None]))


def _packed(*lengths: tuple[int, ...]) -> Rows:
    positions = [np.concatenate([np.arange(n) for n in row]) for row in lengths]
    segments = [np.repeat(np.arange(len(row)) + 1, row) for row in lengths]
    return _rows(np.stack(positions), np.stack(segments))


def _far() -> Rows:
    """Past the 32 768 positions that Qwen2.5 was first trained on, up to the last that the 33B model has."""
    sparse = np.sort(np.random.RandomState(0).choice(65_535, 32, replace=False))
    sparse[-1] = 65_535
    positions = np.stack([np.arange(32_752, 32_784), np.arange(40_000, 40_032), sparse])
    return _rows(positions, np.ones_like(positions))


# Of one shape, so that a model is compiled once.
ROWS = {
    "left padding": _padded((32, 15, 5), left=True),
    "right padding": _padded((32, 15, 5), left=False),
    "packed": _packed((9, 23), (21, 2, 9), (1, 31)),
    "far positions": _far(),
}
GOLDEN_ROWS = ("left padding", "far positions")


def sound(samples: int) -> np.ndarray:
    """A rising tone in noise, fading out: f32[samples] at 16 kHz."""
    t = np.arange(samples) / 16_000
    noise = np.random.RandomState(samples % 2**32).uniform(-1, 1, samples)
    wave = (0.4 * np.sin(2 * np.pi * (300 * t + 90 * t**2)) + 0.02 * noise) * np.exp(-0.2 * t)
    return wave.astype(np.float32)


GOLDEN_SOUND = 9_600

# Mel frames: the shortest chunk with a token, odd and even lengths; the longest.
MEL_LENGTHS = (5, 102, 107, 400)
FULL_CHUNK = 3_000
THINNED = 10  # every so manieth feature of the longest is stored


def mel(frames: int) -> np.ndarray:
    """Made-up log-mel frames: f32[frames, 128], as loud as real ones."""
    return np.random.RandomState(frames).uniform(-1, 1.5, (frames, ENCODER.mel_bins)).astype(np.float32)


def mel_batch(lengths: tuple[int, ...]) -> np.ndarray:
    """The same, zero past each length: f32[N, F, 128]."""
    return np.stack([np.pad(mel(n), ((0, max(lengths) - n), (0, 0))) for n in lengths])


def features() -> np.ndarray:
    """Made-up encoder output: f32[2, 27, E]."""
    return np.random.RandomState(27).uniform(-1.7, 1.7, (2, 27, ENCODER.d_model)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Conversation:
    """Text around two recordings, one row: the arguments of the whole model."""

    sounds: tuple[np.ndarray, np.ndarray]
    tokens: np.ndarray  # int32[T]; what stands at an audio slot is ignored
    chunks: np.ndarray  # int32[T]: chunk that the position belongs to, else -1
    offsets: np.ndarray  # int32[T]: its audio token in that chunk


def conversation() -> Conversation:
    """4 tokens, the longer recording, 3 tokens, the shorter one, 6 tokens."""
    sounds = sound(24_321), sound(9_600)
    counts = [audio_tokens(len(wave)) for wave in sounds]
    pieces = [(-1, 4), (0, counts[0]), (-1, 3), (1, counts[1]), (-1, 6)]
    chunks = np.concatenate([np.full(n, chunk) for chunk, n in pieces])
    offsets = np.concatenate([np.arange(n) for _, n in pieces])
    tokens = np.random.RandomState(3).randint(0, VOCAB, chunks.shape)
    return Conversation(sounds, *(x.astype(np.int32) for x in (tokens, chunks, offsets)))


NEW_TOKENS = 64


def prompts() -> list[np.ndarray]:
    """Token prompts of different lengths for greedy decoding, one too long for a prefill in one piece."""
    return [np.random.RandomState(n).randint(0, VOCAB, n).astype(np.int32) for n in (3, 11, 17, 530)]


def continued(prompts: list[np.ndarray], continuations: np.ndarray) -> Rows:
    """Each prompt with its continuation, one a row."""
    whole = [np.concatenate([prompt, new]) for prompt, new in zip(prompts, continuations)]
    rows = _padded(tuple(map(len, whole)), left=False)
    tokens = np.stack([np.pad(row, (0, rows.tokens.shape[1] - len(row))) for row in whole])
    return rows._replace(tokens=tokens.astype(np.int32))
