"""Words to sound: espeak-ng in this process, with the time of every word and no memory between calls.

espeak carries state from one utterance to the next: where its pitch flutter stands, and whether the next
glottal cycle is odd or even (its "roughness" weakens every other one). Both would make a clip depend on the
clips made before it, so the voice loaded here is the stock en-us voice without flutter and roughness.
"""

import ctypes
import math
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import signal

from step_audio_r1.errors import BadInput, WorkFailed

SAMPLE_RATE = 16_000
PITCH_LIMITS = (0, 99)
RATE_LIMITS = (80, 450)

WordTime = tuple[str, float, float]

_ESPEAK_RATE = 22_050
_RETRIEVAL_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_POSITION_CHARACTER = 1
_PARAMETER_RATE, _PARAMETER_VOLUME, _PARAMETER_PITCH, _PARAMETER_RANGE = 1, 2, 3, 4
_EVENT_END_OF_LIST, _EVENT_WORD = 0, 1
# Sound below this share of the loudest sample counts as silence at both ends of an utterance.
_SILENCE_SHARE = 0.02


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Espeak:
    """The loaded library, what its last utterance returned, and the callback that espeak must find alive."""

    def __init__(self):
        try:
            import espeakng_loader

            self._library = ctypes.CDLL(espeakng_loader.get_library_path())
            data = Path(espeakng_loader.get_data_path())
            voice_text = (data / "lang" / "gmw" / "en-US").read_text(encoding="utf-8")
        except (ImportError, OSError, RuntimeError) as error:
            raise WorkFailed(f"espeak-ng cannot be loaded ({error}); pip install espeakng-loader") from error
        # A wheel's data folder, unlike a system's, must be named.
        rate = self._library.espeak_Initialize(_RETRIEVAL_SYNCHRONOUS, 0, str(data).encode(), _DONT_EXIT)
        if rate != _ESPEAK_RATE:
            raise WorkFailed(f"espeak-ng did not start (espeak_Initialize gave {rate}); reinstall espeakng-loader")
        with tempfile.TemporaryDirectory() as folder:
            voice = Path(folder, "steady")
            voice.write_text(f"{voice_text}\nflutter 0\nroughness 0\n", encoding="utf-8")
            if self._library.espeak_SetVoiceByFile(str(voice).encode()) != 0:
                raise WorkFailed("espeak-ng refused the en-us voice; reinstall espeakng-loader")
        self._sound: list[bytes] = []
        self._words: list[tuple[int, int, float]] = []
        self._callback = _SynthCallback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)
        # The first utterance leaves its mark on all later ones: let it be the same in every process.
        self.say("okay", 50, 175, 40)

    def _receive(self, samples, count, events) -> int:
        if samples and count > 0:
            self._sound.append(ctypes.string_at(samples, 2 * count))
        position = 0
        while events[position].type != _EVENT_END_OF_LIST:
            event = events[position]
            if event.type == _EVENT_WORD:
                first = event.text_position - 1
                self._words.append((first, first + event.length, event.sample / _ESPEAK_RATE))
            position += 1
        return 0

    def say(self, text: str, pitch: int, rate_wpm: int, pitch_range: int):
        """int16[n] samples at 22050 Hz, and (first character, last + 1, start in s) of every word."""
        self._sound.clear()
        self._words.clear()
        for parameter, value in (
            (_PARAMETER_RATE, rate_wpm),
            (_PARAMETER_VOLUME, 100),
            (_PARAMETER_PITCH, pitch),
            (_PARAMETER_RANGE, pitch_range),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        utf8 = text.encode() + b"\0"
        status = self._library.espeak_Synth(
            utf8, ctypes.c_size_t(len(utf8)), 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None
        )
        if status != 0:
            raise WorkFailed(f"espeak-ng could not speak {text!r} (status {status})")
        return np.frombuffer(b"".join(self._sound), np.int16), list(self._words)


_lock = threading.Lock()
_espeak: _Espeak | None = None


def speak_sentence(
    text: str, pitch: int = 50, rate_wpm: int = 175, pitch_range: int = 40
) -> tuple[np.ndarray, list[WordTime]]:
    """Speaks English text with the en-us voice.

    The same arguments give the same samples, in any process and after any other calls. Threads may call it.

    Args:
      text: what to say; punctuation makes pauses.
      pitch: espeak's base pitch, 0 to 99 (about 60 to 180 Hz).
      rate_wpm: speed in words a minute, 80 to 450.
      pitch_range: how lively the melody is, 0 to 99.

    Returns:
      f32[n] samples at 16 kHz in [-1, 1], silence trimmed from both ends; and for each word (the word as it
      stands in the text, start in s, end in s). A word ends where the next begins, the last with the sound.

    Raises:
      BadInput: a parameter is out of range, or nothing in the text can be spoken.
      WorkFailed: espeak-ng cannot be loaded or fails.
    """
    global _espeak
    for name, value, (lowest, highest) in (
        ("pitch", pitch, PITCH_LIMITS),
        ("rate_wpm", rate_wpm, RATE_LIMITS),
        ("pitch_range", pitch_range, PITCH_LIMITS),
    ):
        if not lowest <= value <= highest:
            raise BadInput(f"{name}={value}: must be {lowest} to {highest}")
    with _lock:
        if _espeak is None:
            _espeak = _Espeak()
        samples, word_events = _espeak.say(text, int(pitch), int(rate_wpm), int(pitch_range))
    peak = int(np.abs(samples.astype(np.int32)).max(initial=0))
    if not word_events or peak == 0:
        raise BadInput(f"text {text!r}: holds nothing that can be spoken; give English words")
    audible = np.flatnonzero(np.abs(samples.astype(np.int32)) > _SILENCE_SHARE * peak)
    first, end = int(audible[0]), int(audible[-1]) + 1
    divisor = math.gcd(SAMPLE_RATE, _ESPEAK_RATE)
    waveform = signal.resample_poly(
        samples[first:end].astype(np.float32) / 32768, SAMPLE_RATE // divisor, _ESPEAK_RATE // divisor
    ).astype(np.float32)
    seconds = (end - first) / _ESPEAK_RATE
    starts = [min(max(start - first / _ESPEAK_RATE, 0.0), seconds) for _, _, start in word_events]
    ends = [*starts[1:], seconds]
    spans = [text[begin:stop] for begin, stop, _ in word_events]
    return np.clip(waveform, -1, 1), list(zip(spans, starts, ends, strict=True))


def speak(words: Sequence[str], pitch: int, rate_wpm: int, pitch_range: int = 40) -> tuple[np.ndarray, list[WordTime]]:
    """Speaks words as one phrase without pauses; arguments, results and errors as in `speak_sentence`.

    Returns:
      f32[n] samples at 16 kHz, and one (word, start in s, end in s) for each word of `words`, in order.

    Raises:
      BadInput: also when a word is not one word to espeak (it has a space, or is not pronounced by itself).
    """
    waveform, times = speak_sentence(" ".join(words), pitch, rate_wpm, pitch_range)
    if [word for word, _, _ in times] != list(words):
        raise BadInput(f"words {list(words)}: espeak hears {[word for word, _, _ in times]}; give plain words")
    return waveform, times
