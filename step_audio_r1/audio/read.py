"""Sound files to `AudioClip` or `AudioStream`, held to what their containers promise; and the flac bytes of records."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from step_audio_r1.audio.clip import AudioClip
from step_audio_r1.audio.containers import Mp3Length, mp3_length, mp3_with_length, ogg_pages, sample_chunk
from step_audio_r1.errors import BadInput

# The containers whose promised length can be checked against what was decoded.
FORMATS = ("WAV", "WAVEX", "RF64", "AIFF", "FLAC", "OGG", "MP3")
MIN_RATE, MAX_RATE = 1000, 768_000
# Float files may hold integers scaled to 2**31; far above that the float32 power spectrum would overflow.
LOUDEST = 1e10
_BLOCK_SAMPLES = 1 << 14
# An MP3's stated and decoded lengths differ by the encoder's delay and padding and by a cut last frame.
_MP3_SLACK = 2 * 1152
# libsndfile writes this number of frames for "unknown" (a flac made through a pipe).
_UNKNOWN = 1 << 62
_RECODE = "get a whole copy of it, or convert it to wav or flac with a program that plays it"
_SPLIT = "only the first part would be heard: split it, or convert it to wav or flac"


class _Forward(soundfile.SoundFile):
    """A SoundFile read front to back only.

    On a seekable file soundfile seeks after each block to where it stands already. For MP3 that empties the
    decoder's bit reservoir and alters the samples; for a flac of unknown length it fails at the end.
    """

    def seekable(self) -> bool:
        return False


class AudioStream:
    """A wav, aiff, flac, ogg or mp3 file as it is read, front to back: channel 0 at its own rate, of any length.

    Memory does not grow with the length, but for an mp3 without a length tag: its compressed bytes are held. The file
    is open only while blocks are taken from it; it must not be shortened meanwhile.

    Attributes:
      sample_rate: samples a second (Hz).
      id: the path as given.
      seconds: duration in seconds; None until `blocks` has come to its end.

    Raises:
      BadInput: the file is missing, unreadable or not a file, or its head is not that of sound that can be checked.
    """

    def __init__(self, path: Path | str):
        self.id, self._path = str(path), Path(path)
        self.seconds: float | None = None
        with self._file() as file, _open(file, self.id) as sound:
            self.sample_rate = sound.samplerate

    def blocks(self) -> Iterator[np.ndarray]:
        """The waveform from its beginning, in blocks f32[n]; every call reads the file anew.

        Raises:
          BadInput: whatever `decode_audio` refuses, often not before the end: whether a file is whole shows when all
            of it is decoded. Use nothing of it before.
        """
        count = 0
        with self._file() as file, _open(file, self.id) as sound, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            for block in _blocks(sound, data, self.id):
                count += len(block)
                yield block
        self.seconds = count / self.sample_rate

    def _file(self) -> BinaryIO:
        with _readable(self._path, self.id):
            return self._path.open("rb")


def read_audio(path: Path | str) -> AudioClip:
    """Reads a wav, aiff, flac, ogg or mp3 file at its own rate; of several channels, channel 0.

    Returns:
      AudioClip with waveform f32[n], n >= 1, at the file's rate (Hz); its id is the path as given.

    Source: the released Transformers path also keeps channel 0 only (section 2.1 of the reference).

    Raises:
      BadInput: the file is missing, unreadable, not a file, or `decode_audio` refuses what it holds.
    """
    with _readable(Path(path), str(path)):
        data = Path(path).read_bytes()
    return decode_audio(data, str(path))


def decode_audio(data: bytes, name: str) -> AudioClip:
    """Decodes the bytes of a wav, aiff, flac, ogg or mp3 file at its own rate, channel 0.

    Memory grows with what is decoded, never with what a header claims.

    Args:
      data: the whole file.
      name: what to call it in messages; becomes the clip's id.

    Returns:
      AudioClip with waveform f32[n], n >= 1.

    Raises:
      BadInput: no bytes, not audio, another container, damaged or cut short (decoded length against
        promised length), several recordings chained (only the first would be heard), no samples, an
        unusable sampling rate, samples that are NaN, infinite or absurdly large.
    """
    with _open(io.BytesIO(data), name) as sound:
        return AudioClip(np.concatenate(list(_blocks(sound, data, name))), sound.samplerate, name)


def encode_flac(clip: AudioClip) -> bytes:
    """The clip as flac of 16 bits. What came from 16-bit sound survives exactly; beyond [-1, 1) is clipped.

    Raises:
      BadInput: no samples, NaN, infinite or absurdly large samples, or a rate that flac cannot state.
    """
    if len(clip.waveform) == 0:
        raise BadInput(f"{clip.id}: holds no samples (zero-length audio); leave it out of the records")
    # Left to libsndfile, floats are scaled by 32767 going in and 32768 coming out: a little softer each time.
    pcm = np.clip(np.rint(_checked(clip.waveform, clip.id) * 32768.0), -32768, 32767).astype(np.int16)
    out = io.BytesIO()
    try:
        soundfile.write(out, pcm, clip.sample_rate, format="FLAC", subtype="PCM_16")
    except soundfile.SoundFileError as error:
        raise BadInput(f"{clip.id}: flac cannot hold {clip.sample_rate} Hz; resample it first") from error
    return out.getvalue()


@contextmanager
def _readable(path: Path, name: str) -> Iterator[None]:
    """Says in one line why a file could not be opened within."""
    try:
        if path.exists() and not path.is_file():
            kind = "a directory" if path.is_dir() else "not a regular file"
            raise BadInput(f"{name}: is {kind}; give the path of one sound file")
        yield
    except BadInput:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"{name}: {reason}; give the path of a sound file that you may read") from error


def _open(file: BinaryIO, name: str) -> _Forward:
    """Opens a sound file, unless its head already says that it cannot be used."""
    if file.seek(0, os.SEEK_END) == 0:
        raise BadInput(f"{name}: is empty (0 bytes); get a whole copy of it")
    file.seek(0)
    try:
        sound = _Forward(file)
    except (soundfile.SoundFileError, ValueError) as error:
        # libsndfile's own words mislead here: a cut MP3 is reported as a file that does not exist.
        raise BadInput(
            f"{name}: is not wav, aiff, flac, ogg or mp3 sound, or its head is damaged; {_RECODE}"
        ) from error
    if sound.format not in FORMATS or sound.subtype in ("MPEG_LAYER_I", "MPEG_LAYER_II"):
        kind = f"{sound.format} ({sound.subtype})"
        raise BadInput(f"{name}: {kind} cannot be checked for damage; convert it to wav or flac")
    if not MIN_RATE <= sound.samplerate <= MAX_RATE:
        raise BadInput(f"{name}: {sound.samplerate} Hz is not a rate of {MIN_RATE} to {MAX_RATE} Hz; {_RECODE}")
    return sound


def _blocks(sound: _Forward, data: bytes | mmap, name: str) -> Iterator[np.ndarray]:
    """Blocks f32[n] of channel 0. At the end the container is held to its promise; `data` is the whole file."""
    count, mp3 = 0, mp3_length(data) if sound.format == "MP3" else None
    # A tag is put in front of an mp3 that has none, or libsndfile would not read it to its end.
    untagged = mp3 and not mp3.tagged
    with _open(io.BytesIO(mp3_with_length(data, mp3)), name) if untagged else sound as source:
        for block in _samples(source, name):
            yield _checked(block, name, count)
            count += len(block)
    if sound.format == "OGG":
        _check_ogg(data, name, count / sound.samplerate)
    elif sound.format == "MP3":
        _check_joined(mp3, sound, name)
    elif sound.format != "FLAC":
        _check_sample_chunk(data, name, count, sound.samplerate)
    if count == 0:
        raise BadInput(f"{name}: holds no samples (zero-length audio); record or export it again")


def _samples(sound: _Forward, name: str) -> Iterator[np.ndarray]:
    """Blocks f32[n] of channel 0 to the end; fewer samples than the header promises is an error."""
    count = 0
    block_frames = max(1, _BLOCK_SAMPLES // sound.channels)
    known = sound.frames < _UNKNOWN
    promised = sound.frames / sound.samplerate if known else None
    while True:
        try:
            # Never past the promised end: a flac decoder stumbles over tags that follow it.
            wanted = min(block_frames, sound.frames - count)
            block = sound.read(wanted, dtype="float32", always_2d=True)
        except soundfile.SoundFileError:
            _require_whole(name, count / sound.samplerate, promised, False)
        if len(block) == 0:
            break
        count += len(block)
        yield block[:, 0].copy()
    slack = _MP3_SLACK if sound.format == "MP3" else 0
    _require_whole(name, count / sound.samplerate, promised, not known or count >= sound.frames - slack)


def _check_sample_chunk(data: bytes | mmap, name: str, count: int, rate: int) -> None:
    """Holds a wav or aiff to the bytes it claims: libsndfile shortens the claim to the file, silently."""
    claimed, held = sample_chunk(data) or (1, 1)
    promised = round(count * claimed / max(held, 1))
    _require_whole(name, count / rate, promised / rate, count >= promised)


def _check_ogg(data: bytes | mmap, name: str, seconds: float) -> None:
    pages = ogg_pages(data)
    if pages.links > 1:
        raise BadInput(f"{name}: {pages.links} Ogg streams one after another; {_SPLIT}")
    if pages.damaged:
        raise BadInput(f"{name}: {pages.damaged} of its Ogg pages are damaged or cut short; {_RECODE}")
    if not pages.closed:
        raise BadInput(f"{name}: is cut short: no closing page after {seconds:.2f} s; {_RECODE}")


def _check_joined(mp3: Mp3Length | None, sound: _Forward, name: str) -> None:
    if mp3 and mp3.tagged and mp3.samples > sound.frames + 2 * _MP3_SLACK:
        said, found = sound.frames / sound.samplerate, mp3.samples / sound.samplerate
        raise BadInput(f"{name}: its header says {said:.2f} s but {found:.2f} s follow; {_SPLIT}")


def _require_whole(name: str, seconds: float, promised: float | None, whole: bool) -> None:
    if not whole:
        claim = f"its header says {promised:.2f} s, and" if promised is not None else "of unknown length,"
        raise BadInput(f"{name}: is damaged or cut short: {claim} {seconds:.2f} s can be decoded; {_RECODE}")


def _checked(waveform: np.ndarray, name: str, start: int = 0) -> np.ndarray:
    """The samples, the first of which is number `start` of the sound, if all of them are numbers of a sane size."""
    # Written so that NaN fails the comparison too.
    sane = np.abs(waveform) <= LOUDEST
    if not sane.all():
        first = int(np.argmin(sane))
        found = f"sample {start + first} is {waveform[first]:g}"
        raise BadInput(f"{name}: {found}, not a sample in [-1, 1]; export it again")
    return waveform
