"""Speaks a sentence into a WAV file, to try a model on.

python -m step_audio_r1.data.world.say --text="Okay, I understand" --pitch=15 --rate=230 --out=FILE.wav
"""

import argparse
import io
import sys

import numpy as np
import soundfile

from step_audio_r1.data.world.clips import VOICE_RMS
from step_audio_r1.data.world.speech import SAMPLE_RATE, speak_sentence
from step_audio_r1.data.world.truth import CLIP_SECONDS
from step_audio_r1.errors import exit_code
from step_audio_r1.files import write_bytes

_SILENCE = round(0.3 * SAMPLE_RATE)
_SHORTEST = round(CLIP_SECONDS * SAMPLE_RATE)


def say(text: str, out: str, pitch: int, rate: int, loudness: str) -> None:
    """Writes `text` as 16 bit WAV at 16 kHz: 0.3 s of faint noise on each side, and as long as a clip of the world."""
    spoken, _ = speak_sentence(text, pitch, rate)
    spoken = spoken * VOICE_RMS[loudness] / np.sqrt(np.mean(np.square(spoken)))
    length = max(len(spoken) + 2 * _SILENCE, _SHORTEST)
    noise = np.random.default_rng(0).normal(0, 1e-3, length)
    noise[_SILENCE : _SILENCE + len(spoken)] += spoken
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(noise, -1, 1), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    write_bytes(out, buffer.getvalue())


def main(argv: list[str]) -> int:
    """Parses flags and speaks."""
    parser = argparse.ArgumentParser(prog="python -m step_audio_r1.data.world.say", description=__doc__)
    parser.add_argument("--text", required=True)
    parser.add_argument("--pitch", type=int, default=50, help="0 to 99; the world's voices are 8-28 or 72-95")
    parser.add_argument("--rate", type=int, default=175, help="words a minute; the world's are 105-130 or 210-250")
    parser.add_argument("--loudness", choices=tuple(VOICE_RMS), default="loud")
    parser.add_argument("--out", required=True, help="the WAV file")
    args = parser.parse_args(argv)
    return exit_code(lambda: say(args.text, args.out, args.pitch, args.rate, args.loudness))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
