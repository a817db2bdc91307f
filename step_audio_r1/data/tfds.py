"""Adapters for sets of TensorFlow Datasets: which question their labels answer. TFDS itself is an extra.

Every item becomes a question with its gold answer (source "questions"); the set's own words for its labels are put
into plain ones.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from step_audio_r1.audio import AudioClip
from step_audio_r1.data.manifest import Item, make_example
from step_audio_r1.errors import BadInput, WorkFailed


@dataclasses.dataclass(frozen=True)
class Adapter:
    """How one set reads.

    Attributes:
      question: what is asked of every clip.
      domain, kind: as in `Example`.
      words: the set's names of its labels -> ours; a name that is not there stays as it is.
      rate: sampling rate (Hz) where the set's description has none.
    """

    question: str
    domain: str
    kind: str
    words: dict[str, str]
    rate: int


ADAPTERS = {
    "speech_commands": Adapter(
        "which word is spoken",
        "speech",
        "factual",
        {"_silence_": "silence", "_unknown_": "another word"},
        16_000,
    ),
    "crema_d": Adapter(
        "how does the speaker feel",
        "speech",
        "contextual",
        {"NEU": "neutral", "HAP": "happy", "SAD": "sad", "ANG": "angry", "FEA": "afraid", "DIS": "disgusted"},
        16_000,
    ),
    "savee": Adapter(
        "how does the speaker feel",
        "speech",
        "contextual",
        {
            "anger": "angry",
            "disgust": "disgusted",
            "fear": "afraid",
            "happiness": "happy",
            "sadness": "sad",
            "surprise": "surprised",
        },
        44_100,
    ),
    "gtzan": Adapter("which genre is this music", "music", "factual", {"hiphop": "hip hop"}, 22_050),
}


def read_tfds(spec: str, limit: int | None = None, style: str = "world") -> tuple[Iterator[Item], int]:
    """Items of the set `spec` ("NAME" or "NAME:SPLIT", the split being "train" by default), and how many there are.

    Args:
      spec: a name in `ADAPTERS`, perhaps with a split.
      limit: take no more items than this.
      style: how questions are worded (`make_example`).

    Raises:
      BadInput: the set is unknown, has no such split, or tensorflow_datasets is not installed.
      WorkFailed: TFDS could not get the set.
    """
    name, _, split = spec.partition(":")
    split = split or "train"
    if name not in ADAPTERS:
        raise BadInput(f"tfds:{name}: no adapter for this set; there are {', '.join(ADAPTERS)}")
    try:
        # Imported here: the main path needs no TensorFlow.
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise BadInput(
            f'tfds:{name}: tensorflow_datasets is not installed; pip install "step_audio_r1[tfds]"'
        ) from error
    try:
        builder = tfds.builder(name)
        if builder.info.splits and split not in builder.info.splits:
            raise BadInput(f"tfds:{name}:{split}: no such split; there are {', '.join(builder.info.splits)}")
        rows, info = tfds.load(name, split=split, with_info=True)
    except BadInput:
        raise
    except Exception as error:  # downloads, manual steps and TensorFlow each fail in their own way
        raise WorkFailed(f"tfds:{name}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
    count = info.splits[split].num_examples
    count = count if limit is None else min(count, limit)
    rows = itertools.islice(tfds.as_numpy(rows), count)
    return _items(f"tfds:{name}:{split}", ADAPTERS[name], rows, info, style), count


def _items(where: str, adapter: Adapter, rows: Iterator[dict[str, Any]], info: Any, style: str) -> Iterator[Item]:
    names = [adapter.words.get(name, name) for name in info.features["label"].names]
    rate = getattr(info.features["audio"], "sample_rate", None) or adapter.rate
    for number, row in enumerate(rows):
        name = f"{where.removeprefix('tfds:').replace(':', '-')}-{number:06d}"
        example = make_example(
            name,
            [name],
            adapter.question,
            style=style,
            answer=names[int(row["label"])],
            choices=names,
            kind=adapter.kind,
            domain=adapter.domain,
            provenance={"source": where, "index": number},
        )
        samples = row["audio"]
        yield Item(example, f"{where}:{number}", {name: lambda s=samples, n=name: _clip(s, rate, n)})


def _clip(samples: np.ndarray, rate: int, name: str) -> AudioClip:
    """A clip from TFDS samples: integers are of 16 bits, floats are taken as they are; channel 0."""
    if len(samples) == 0:
        raise BadInput(f"{name}: holds no samples (zero-length audio)")
    if samples.ndim > 1:
        samples = samples[:, 0]
    scale = 1 / 32768 if np.issubdtype(samples.dtype, np.integer) else 1.0
    waveform = samples.astype(np.float32) * np.float32(scale)
    if not np.isfinite(waveform).all():
        raise BadInput(f"{name}: has samples that are not finite")
    return AudioClip(waveform, rate, name)
