"""Sound and pictures of world clips as data URIs, made from the clip's id alone."""

import base64
import io
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
from matplotlib.image import imsave

from step_audio_r1.audio import AudioClip
from step_audio_r1.data.world import truth as world
from step_audio_r1.data.world.chains import in_words
from step_audio_r1.data.world.clips import make_clip
from step_audio_r1.errors import WorkFailed

_CLIP = re.compile(rf"({'|'.join(world.SPLITS)})-(\d{{6,9}})")
_WINDOW, _COLUMNS = 512, 256
# Range of the picture in dB, and its shades: few, so that the PNG stays small.
_FLOOR_DB, _DEPTH_DB, _SHADES = -105.0, 65.0, 24


@dataclass(frozen=True)
class Clip:
    """A clip as the page shows it.

    Attributes:
      id: its name.
      sound: data URI of a FLAC file.
      picture: data URI of a PNG spectrogram, 0 to 8 kHz upwards.
      holds: what is in it, in words.
    """

    id: str
    sound: str
    picture: str
    holds: str


def clip_for(clip_id: Any) -> Clip | None:
    """The clip of that id, or None if it is not one of the world, or cannot be made here."""
    match = _CLIP.fullmatch(str(clip_id))
    if match is None:
        return None
    try:
        clip, truth, _ = make_clip(match[1], int(match[2]))
    except WorkFailed:
        return None
    return Clip(str(clip_id), _flac(clip), _spectrogram(clip.waveform), in_words(truth))


def _flac(clip: AudioClip) -> str:
    file = io.BytesIO()
    soundfile.write(file, clip.waveform, clip.sample_rate, format="FLAC", subtype="PCM_16")
    return _data_uri("audio/flac", file.getvalue())


def _spectrogram(waveform: np.ndarray) -> str:
    """PNG of f32[n] samples on one scale of loudness for all clips."""
    hops = np.linspace(0, len(waveform) - _WINDOW, _COLUMNS).astype(int)
    frames = np.stack([waveform[hop : hop + _WINDOW] for hop in hops]) * np.hanning(_WINDOW)
    power = np.abs(np.fft.rfft(frames)[:, :-1]) ** 2 / np.square(np.hanning(_WINDOW)).sum() / 8000
    decibels = 10 * np.log10(power.reshape(_COLUMNS, -1, 2).mean(-1) + 1e-12).T
    shades = np.round(np.clip((decibels - _FLOOR_DB) / _DEPTH_DB, 0, 1) * (_SHADES - 1))
    file = io.BytesIO()
    imsave(file, shades, vmin=0, vmax=_SHADES - 1, cmap="magma", origin="lower", format="png")
    return _data_uri("image/png", file.getvalue())


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
