"""Does thinking lose at the cold start, and where does MGRD turn it?"""

from collections.abc import Iterator

from experiments.answers import AFTER, BEFORE, STAGES, accuracies, answered, gained, gains
from experiments.sweep import Contrast, Sweep

DOMAINS = ("speech", "environment", "music")
# Of perceptual questions, in the order of the domains.
FAMILIES = ("feel", "fitting", "nloud", "nearer", "cause", "above", "peak")
WHEN = {"before": (BEFORE, "At the cold start"), "after": (AFTER, "After round 3")}


def _gain(name: str, says: str, stage: str, group: str, expected: str | None, decides: bool = False) -> Contrast:
    """Thinking minus direct of one group after one stage."""
    sides = [(gained(stage, group, side),) for side in ("thinking", "other")]
    return Contrast(name, says, *sides, expected, decides=decides)


def _rounds() -> Iterator[Contrast]:
    about = "on perceptual questions"
    yield _gain(
        "thinking_minus_direct_before",
        f"At the cold start thinking loses {about}.",
        BEFORE,
        "perceptual",
        "below",
        decides=True,
    )
    for number, stage in enumerate(STAGES[1:], 1):
        says = f"After round {number} thinking wins {about}."
        yield _gain(f"thinking_minus_direct_round_{number}", says, stage, "perceptual", "above", decides=stage == AFTER)
    yield Contrast(
        "change",
        f"What thinking gains {about} rises from the cold start to round 3.",
        (gained(AFTER),),
        (gained(BEFORE),),
        "above",
    )


def _groups() -> Iterator[Contrast]:
    for domain in DOMAINS:
        about = f"questions about {domain}"
        yield _gain(f"{domain}_before", f"At the cold start thinking loses on {about}.", BEFORE, domain, "below")
        yield _gain(f"{domain}_after", f"After round 3 thinking wins on {about}.", AFTER, domain, "above")
    for group, about in (("content", "questions that a caption answers"), *((f, f'family "{f}"') for f in FAMILIES)):
        for when, (stage, begins) in WHEN.items():
            yield _gain(f"{group}_{when}", f"{begins}, {about}: thinking minus direct.", stage, group, None)


def _unasked() -> Iterator[Contrast]:
    for when, (stage, begins) in WHEN.items():
        thinks = answered(stage, column="thinks", asked="free")
        says = f"{begins}, perceptual questions about which the model thinks where it may choose."
        yield Contrast(f"thinks_{when}", says, (thinks,), (), None, decides=False)


SWEEP = Sweep(
    name="inverted_scaling",
    claim="Audio models answer worse when they think; MGRD turns this round",
    evidence="Single runs without interval; Step-Audio 2 to R1: MMAU 78.0 to 77.7, MMSU 64.3 to 75.9 %",
    arms=("full",),
    tables={
        "gains": gains(STAGES, groups=("all", "perceptual", "content", "domain", "kind", "family")),
        "accuracy": accuracies(STAGES),
    },
    contrasts=(*_rounds(), *_groups(), *_unasked()),
)
