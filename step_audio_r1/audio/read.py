"""Sound files to `AudioClip`, held to what their containers promise; and the flac bytes of records."""

import io
from pathlib import Path

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


def read_audio(path: Path | str) -> AudioClip:
    """Reads a wav, aiff, flac, ogg or mp3 file at its own rate; of several channels, channel 0.

    Returns:
      AudioClip with waveform f32[n], n >= 1, at the file's rate (Hz); its id is the path as given.

    Source: the released Transformers path also keeps channel 0 only (section 2.1 of the reference).

    Raises:
      BadInput: the file is missing, unreadable, not a file, or `decode_audio` refuses what it holds.
    """
    name, path = str(path), Path(path)
    try:
        if path.exists() and not path.is_file():
            kind = "a directory" if path.is_dir() else "not a regular file"
            raise BadInput(f"{name}: is {kind}; give the path of one sound file")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"{name}: {reason}; give the path of a sound file that you may read") from error
    return decode_audio(data, name)


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
    if not data:
        raise BadInput(f"{name}: is empty (0 bytes); get a whole copy of it")
    with _open(data, name) as sound:
        rate = sound.samplerate
        if sound.format not in FORMATS or sound.subtype in ("MPEG_LAYER_I", "MPEG_LAYER_II"):
            kind = f"{sound.format} ({sound.subtype})"
            raise BadInput(f"{name}: {kind} cannot be checked for damage; convert it to wav or flac")
        if not MIN_RATE <= rate <= MAX_RATE:
            raise BadInput(f"{name}: {rate} Hz is not a rate of {MIN_RATE} to {MAX_RATE} Hz; {_RECODE}")
        mp3 = mp3_length(data) if sound.format == "MP3" else None
        if mp3 and not mp3.tagged:
            with _open(mp3_with_length(data, mp3), name) as tagged:
                waveform = _samples(tagged, name)
        else:
            waveform = _samples(sound, name)
        if sound.format == "OGG":
            _check_ogg(data, name, len(waveform) / rate)
        elif sound.format == "MP3":
            _check_joined(mp3, sound, name)
        elif sound.format != "FLAC":
            _check_sample_chunk(data, name, len(waveform), rate)
        if len(waveform) == 0:
            raise BadInput(f"{name}: holds no samples (zero-length audio); record or export it again")
        return AudioClip(_checked(waveform, name), rate, name)


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


def _open(data: bytes, name: str) -> _Forward:
    try:
        return _Forward(io.BytesIO(data))
    except (soundfile.SoundFileError, ValueError) as error:
        # libsndfile's own words mislead here: a cut MP3 is reported as a file that does not exist.
        raise BadInput(
            f"{name}: is not wav, aiff, flac, ogg or mp3 sound, or its head is damaged; {_RECODE}"
        ) from error


def _samples(sound: _Forward, name: str) -> np.ndarray:
    """f32[n] of channel 0, read in blocks to the end; fewer than the header promises is an error."""
    blocks, count = [], 0
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
        blocks.append(block[:, 0].copy())
        count += len(block)
        if len(block) == 0:
            break
    slack = _MP3_SLACK if sound.format == "MP3" else 0
    _require_whole(name, count / sound.samplerate, promised, not known or count >= sound.frames - slack)
    return np.concatenate(blocks)


def _check_sample_chunk(data: bytes, name: str, count: int, rate: int) -> None:
    """Holds a wav or aiff to the bytes it claims: libsndfile shortens the claim to the file, silently."""
    claimed, held = sample_chunk(data) or (1, 1)
    promised = round(count * claimed / max(held, 1))
    _require_whole(name, count / rate, promised / rate, count >= promised)


def _check_ogg(data: bytes, name: str, seconds: float) -> None:
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


def _checked(waveform: np.ndarray, name: str) -> np.ndarray:
    # Written so that NaN fails the comparison too.
    sane = np.abs(waveform) <= LOUDEST
    if not sane.all():
        first = int(np.argmin(sane))
        raise BadInput(f"{name}: sample {first} is {waveform[first]:g}, not a sample in [-1, 1]; export it again")
    return waveform
