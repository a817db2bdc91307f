"""Which questions a stage of RLVR was given, from `rollouts/STAGE/`: how many of each family, and how hard."""

from collections import Counter, defaultdict
from pathlib import Path

from experiments.sweep import Reader, Row
from step_audio_r1.data.store import Dataset
from step_audio_r1.errors import BadInput
from step_audio_r1.files import read_json
from step_audio_r1.mgrd import family_of
from step_audio_r1.rl import keeps

# The source of a dataset of selected questions.
_SELECTED = "selected"


def pools(stage: str) -> Reader:
    """Reader of a row for each family of each source that was tried, after one of "all" of them.

    source, family, strategy   of what, and by which rule they were chosen
    tried, suitable, kept      how many questions; suitable ones are what the rule wants, kept ones are trained on
    rate, kept_rate            the mean share of right samples, of those tried and of those kept; None of no questions

    Raises:
      BadInput: the stage has tried no questions, or what it kept is damaged.
    """

    def read(workdir: Path) -> list[Row]:
        folder = workdir / "rollouts" / stage
        files = sorted(folder.glob("pass_at_k-*.json"))
        if not files:
            raise BadInput(f"{folder}: no pass_at_k-*.json; give the workdir of a run that selects questions")
        return [row for path in files for row in _source(path)]

    return read


def _source(path: Path) -> list[Row]:
    about = read_json(path)
    selected = Dataset(path.parent / path.stem.replace("pass_at_k", _SELECTED)).examples(_SELECTED)
    kept: dict[str, Counter[int]] = defaultdict(Counter)
    for example in selected:
        kept[family_of(example)][example.provenance["solved"]] += 1
    tried = {name: Counter(dict(enumerate(counts))) for name, counts in about["families"].items()}
    every = {"all": (_total(tried), _total(kept))} | {name: (tried[name], kept[name]) for name in tried}
    return [
        {
            "source": about["source"],
            "family": family,
            "strategy": about["strategy"],
            "tried": counts.total(),
            "suitable": sum(counts[n] for n in counts if keeps(about["strategy"], n, tuple(about["pass_range"]))),
            "kept": chosen.total(),
            "rate": _rate(counts, about["k"]),
            "kept_rate": _rate(chosen, about["k"]),
        }
        for family, (counts, chosen) in every.items()
    ]


def _total(families: dict[str, Counter[int]]) -> Counter[int]:
    return sum(families.values(), Counter())


def _rate(solved: Counter[int], samples: int) -> float | None:
    """The mean share of right samples, of how many questions were solved so often."""
    return sum(n * count for n, count in solved.items()) / (samples * solved.total()) if solved.total() else None
