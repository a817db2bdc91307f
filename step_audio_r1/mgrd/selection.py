"""Which questions a round asks, and which of them are neither too easy nor too hard to learn from."""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from step_audio_r1.data.records import Example
from step_audio_r1.mgrd.chain import Chain


def pass_rates(chains: Iterable[Chain]) -> dict[str, tuple[int, int]]:
    """(correct, k) of each question, in order of first appearance; unchecked chains do not count."""
    rates: dict[str, tuple[int, int]] = {}
    for chain in chains:
        correct, k = rates.get(chain.example_id, (0, 0))
        checked = chain.correct is not None
        rates[chain.example_id] = (correct + (chain.correct == 1.0), k + checked)
    return rates


def moderate(rates: Mapping[str, tuple[int, int]], low: int = 3, high: int = 6) -> list[str]:
    """Ids of the questions solved `low` to `high` times, both included (pass@8 in [3, 6], section 8)."""
    return [name for name, (correct, _) in rates.items() if low <= correct <= high]


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
