"""Sound on its way to the model: files to clips, clips to 16 kHz chunks, chunks to log-mel frames.

    clip = read_audio("speech.mp3")                      # f32[n] at the file's rate, channel 0
    mels = [log_mel(chunk) for chunk in chunks(clip)]    # f32[F, M] for every 25 s

NumPy only. What a chunk will cost in frames and tokens is known from its length: `mel_frames`, `valid_keys`,
`encoder_frames`, `audio_tokens`.
"""

from step_audio_r1.audio.chunks import (
    CHUNK_SAMPLES,
    CHUNK_SECONDS,
    MIN_SAMPLES,
    TokenCount,
    audio_tokens,
    chunks,
    encoder_frames,
    mel_frames,
    valid_keys,
)
from step_audio_r1.audio.clip import AudioClip
from step_audio_r1.audio.logmel import N_MELS, SAMPLE_RATE, log_mel, mel_filters
from step_audio_r1.audio.read import decode_audio, encode_flac, read_audio
from step_audio_r1.audio.resample import resample

__all__ = [
    "CHUNK_SAMPLES",
    "CHUNK_SECONDS",
    "MIN_SAMPLES",
    "N_MELS",
    "SAMPLE_RATE",
    "AudioClip",
    "TokenCount",
    "audio_tokens",
    "chunks",
    "decode_audio",
    "encode_flac",
    "encoder_frames",
    "log_mel",
    "mel_filters",
    "mel_frames",
    "read_audio",
    "resample",
    "valid_keys",
]
