"""Which questions a round asks."""

import zlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from step_audio_r1.data.records import Example


def family_of(example: Example) -> str:
    """The family that questions are balanced over; domain and kind where the source names none."""
    return example.family or f"{example.domain}/{example.kind}"


def select_questions(
    examples: Sequence[Example], count: int, seed: int, perceptual_share: float = 0.8
) -> list[Example]:
    """Picks `count` questions, or all if there are fewer; the same ones in whatever order they are given.

    `perceptual_share` of them need the sound (a question without a label counts as such), the rest can be
    answered from a caption. Within each part every family gets an equal share. A part or family that runs out
    leaves its places to the others.
    """
    examples = list(examples)  # a source decodes its records anew on every pass
    perceptual = _rounds([e for e in examples if e.perceptual is not False], seed)
    content = _rounds([e for e in examples if e.perceptual is False], seed)
    wanted = round(count * perceptual_share)
    heard = min(len(perceptual), max(wanted, count - len(content)))
    return perceptual[:heard] + content[: max(count - heard, 0)]


def _rounds(examples: Sequence[Example], seed: int) -> list[Example]:
    """All examples, one of each family in turn, so that every beginning of the list is balanced."""
    families: dict[str, list[Example]] = defaultdict(list)
    for example in sorted(examples, key=lambda e: e.id):
        families[family_of(example)].append(example)
    queues = []
    for name in sorted(families):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        queues.append([families[name][i] for i in rng.permutation(len(families[name]))])
    longest = max(map(len, queues), default=0)
    return [queue[i] for i in range(longest) for queue in queues if i < len(queue)]
