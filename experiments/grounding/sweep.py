"""Does MGRD ground the chains in the sound, and is the sound used?"""

from collections.abc import Iterator

from experiments.answers import AFTER, BEFORE, STAGES, attention, gained, gains, measured, measures
from experiments.sweep import Cell, Contrast, Sweep

# measure of perceptual questions: (name of the contrast, what changes, sign, whether it decides)
CHANGES = {
    "grounded_share": ("grounded_chains", "More chains are grounded", "above", True),
    "claim_precision": ("true_claims", "More claims are true", "above", True),
    "precision_4": ("true_claims_at_the_end", "More claims are true in the last quarter of the chain", "above", True),
    "surrogate_share": ("surrogate_chains", "Fewer chains argue from a caption", "below", True),
    "thinking_minus_direct": ("thinking_minus_direct", "Thinking pays more against direct answers", "above", True),
    "audio_gain": ("sound_minus_silence", "The real sound is worth more against silence", "above", True),
    "audio_attention": ("attention_on_sound", "More attention is on the sound", "above", False),
}
INSTEAD = {"silence": "silence", "noise": "noise", "swapped": "another clip"}
# Before MGRD few outputs have more than some fifteen.
STEPS = (1, 4, 8, 12)


def _changes() -> Iterator[Contrast]:
    for column, (name, says, expected, decides) in CHANGES.items():
        sides = [(measured(stage, column),) for stage in (AFTER, BEFORE)]
        yield Contrast(name, f"{says} after round 3 than at the cold start.", *sides, expected, decides=decides)
    sides = [(measured(stage, "thinking_minus_direct", "all"),) for stage in (AFTER, BEFORE)]
    says = "Over all questions, thinking pays more against direct answers after round 3 than at the cold start."
    yield Contrast("thinking_minus_direct_all", says, *sides, "above", decides=False)
    sides = [(measured(stage, "mean_think_tokens"),) for stage in (AFTER, BEFORE)]
    says = "Length of thinking, after round 3 minus the cold start."
    yield Contrast("think_tokens", says, *sides, None, "tokens", decides=False)


def _sound_used() -> Iterator[Contrast]:
    for condition, instead in INSTEAD.items():
        sides = [(gained(AFTER, column=column, against=condition),) for column in ("thinking", "other")]
        says = f"After round 3 thinking is better with the real sound than with {instead}."
        yield Contrast(f"{condition}_after", says, *sides, "above", decides=False)
        if condition != "silence":  # stands above as `sound_minus_silence`
            sides = [(gained(stage, against=condition),) for stage in (AFTER, BEFORE)]
            says = f"The real sound is worth more against {instead} after round 3 than at the cold start."
            yield Contrast(f"{condition}_change", says, *sides, "above", decides=False)


def _decay() -> Iterator[Contrast]:
    for when, begins, stage in (("before", "At the cold start", BEFORE), ("after", "After round 3", AFTER)):
        sides = [(measured(stage, f"precision_{quarter}"),) for quarter in (4, 1)]
        says = f"{begins} claims of the last quarter of a chain are true less often than those of the first."
        yield Contrast(f"decay_{when}", says, *sides, "below", decides=False)


def _attention() -> Iterator[Contrast]:
    for step in STEPS:
        where = {"arm": "full", "group": "perceptual", "step": step}
        sides = [(Cell("attention", "attention", {**where, "stage": stage}),) for stage in (AFTER, BEFORE)]
        says = f"Attention on the sound at decoding step {step}, after round 3 minus the cold start."
        yield Contrast(f"attention_{step}", says, *sides, None, decides=False)


SWEEP = Sweep(
    name="grounding",
    claim="MGRD moves reasoning from a surrogate of the text to the sound itself",
    evidence="Examples of chains; whether claims are true and the sound is used is not measured",
    arms=("full",),
    tables={
        "measures": measures,
        "gains": gains(STAGES, against=("direct", *INSTEAD)),
        "attention": attention,
    },
    contrasts=(*_changes(), *_sound_used(), *_decay(), *_attention()),
)
