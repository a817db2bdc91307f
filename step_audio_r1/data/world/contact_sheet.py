"""One HTML page to check the audio world by ear and eye: every class with its spectrogram, sound and truth.

python -m step_audio_r1.data.world.contact_sheet --out=contact_sheet.html
"""

import argparse
import base64
import html
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.io import wavfile

from step_audio_r1.data.world import truth as world
from step_audio_r1.data.world.chains import in_words
from step_audio_r1.data.world.clips import synthesise
from step_audio_r1.data.world.speech import SAMPLE_RATE
from step_audio_r1.errors import BadInput, exit_code
from step_audio_r1.files import write_text

# Apart from the clips of the splits, which use purposes 0 and 1.
_SHEET_PURPOSE = 2

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>The audio world</title>
<style>body{{font:14px system-ui,sans-serif;margin:1.5em;max-width:1300px}}
section{{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:1em}}
figure{{margin:0}}img,audio{{width:100%}}audio{{height:32px}}figcaption{{color:#444;font-size:12px}}</style>
<h1>The audio world, split {split}</h1>
<p>Each clip is 3.2 s long; spectrograms run from 0 to 8 kHz, on one scale of loudness.</p>
{sections}</html>
"""


def write_contact_sheet(path: Path | str, split: str = "train", per_class: int = 1) -> None:
    """Writes one self-contained HTML page that shows every class of the world.

    Every event kind soft and loud, every timbre at every level (upwards and mixed), and every combination of
    voice pitch, rate and loudness, each as a spectrogram, a player and its truth: 20 clips, about 5 MB, for
    each unit of `per_class`.

    Args:
      path: where to write; replaced in one step.
      split: whose random streams draw the words, tunings and noise.
      per_class: how many renderings of each class, at least 1.

    Raises:
      BadInput: an unknown split, or per_class below 1.
      WorkFailed: espeak-ng cannot be loaded, or the page cannot be written.
    """
    if split not in world.SPLITS:
        raise BadInput(f"split {split!r}: must be one of {', '.join(world.SPLITS)}")
    if per_class < 1:
        raise BadInput(f"per_class={per_class}: must be 1 or more")
    sections = []
    for title, truths in _sheet_truths(split).items():
        figures = []
        for number, (truth, _) in enumerate(itertools.product(truths, range(per_class))):
            rng = world.rng_for(split, number, purpose=_SHEET_PURPOSE)
            waveform, _ = synthesise(truth, rng)
            figures.append(_figure(truth, waveform))
        sections.append(f"<h2>{html.escape(title)}</h2><section>{''.join(figures)}</section>")
    write_text(path, _PAGE.format(split=split, sections="\n".join(sections)))


def _sheet_truths(split: str) -> dict[str, list[dict[str, Any]]]:
    """For each section of the page, truths that together show all its classes."""
    spoken = (world.sample_truth(split, index) for index in itertools.count())
    sentences = (truth["words"] for truth in spoken if truth["domain"] == "speech")
    mixed = ["mid", "top", "bottom", "mid", "high", "low"]
    return {
        "Events: soft, loud, soft": [
            {
                "domain": "environment",
                "events": [{"kind": kind, "loudness": loudness} for loudness in ("soft", "loud", "soft")],
            }
            for kind in world.EVENT_KINDS
        ],
        "Notes: the five levels upwards, then mixed": [
            {"domain": "music", "timbre": timbre, "notes": list(notes)}
            for timbre in world.TIMBRES
            for notes in (world.LEVELS, mixed)
        ],
        "Speech: pitch, rate and loudness of the voice": [
            {
                "domain": "speech",
                "words": next(sentences),
                "pitch": pitch,
                "rate": rate,
                "loudness": loudness,
                "emotion": world.VOICE_EMOTION[pitch, rate],
            }
            for pitch, rate, loudness in itertools.product(world.PITCHES, world.RATES, world.LOUDNESSES)
        ],
    }


def _figure(truth: dict[str, Any], waveform: np.ndarray) -> str:
    """A <figure> with the spectrogram and the sound inline and the truth as its caption."""
    wav = io.BytesIO()
    wavfile.write(wav, SAMPLE_RATE, np.round(waveform * 32767).astype(np.int16))
    caption = html.escape(in_words(truth))
    return (
        f'<figure><img alt="spectrogram" src="{_data_uri("image/png", _spectrogram_png(waveform))}">'
        f'<audio controls src="{_data_uri("audio/wav", wav.getvalue())}"></audio>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _spectrogram_png(waveform: np.ndarray) -> bytes:
    """PNG image of the spectrogram of f32[n] samples at 16 kHz: 0 to 8 kHz upwards, 65 dB deep."""
    figure = Figure(figsize=(4, 2), dpi=75, layout="constrained")
    axes = figure.subplots()
    axes.specgram(waveform, NFFT=512, Fs=SAMPLE_RATE, noverlap=352, vmin=-105, vmax=-40, cmap="magma")
    axes.set(xlabel="s", ylabel="Hz")
    axes.tick_params(labelsize=7)
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()


def main() -> int:
    """Parses the flags and writes the page; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="HTML file to write")
    parser.add_argument("--split", default="train", help="whose random streams to use (default: train)")
    parser.add_argument("--per_class", type=int, default=1, help="renderings of each class (default: 1)")
    flags = parser.parse_args()
    return exit_code(lambda: write_contact_sheet(flags.out, flags.split, flags.per_class))


if __name__ == "__main__":
    raise SystemExit(main())
