"""How often does the model deny that it hears, and what does DPO on it cost?"""

from collections.abc import Iterator

from experiments.answers import AFTER, BEFORE, STAGES, accuracies, answered, denials, measured, measures
from experiments.sweep import Cell, Contrast, Sweep

DPO = "dpo"
SELF_DISTILLED = "self_sft"
# Their runs hold what came of all stages before.
ARM, SECOND = "dpo", "self_distilled_dpo"
NAMES = {
    BEFORE: "at the cold start",
    AFTER: "after MGRD",
    SELF_DISTILLED: "after a round of self-distillation",
    DPO: "after DPO",
}
FIRST_DESIGN = (BEFORE, AFTER, DPO)
FAMILIES = ("hearing", "reading", "medium", "naming")


def _denied(
    stage: str, group: str = "identity", column: str = "denied", asked: str = "thinking", arm: str = ARM
) -> Cell:
    return Cell("denials", column, {"arm": arm, "stage": stage, "asked": asked, "group": group})


def _steps() -> Iterator[Contrast]:
    steps = (
        ("denials_after_MGRD", AFTER, BEFORE, True),
        ("denials_after_DPO", DPO, AFTER, True),
        ("denials_after_both", DPO, BEFORE, False),
    )
    for name, later, earlier, decides in steps:
        says = f"Replies to questions of identity deny hearing less often {NAMES[later]} than {NAMES[earlier]}."
        yield Contrast(name, says, (_denied(later),), (_denied(earlier),), "below", decides=decides)


def _told() -> Iterator[Contrast]:
    for column, about in (("in_thoughts", "in the thinking"), ("only_in_answer", "in the answer alone")):
        for stage in FIRST_DESIGN:
            says = f"Replies that deny it {about}, {NAMES[stage]}."
            yield Contrast(f"{column}_{stage}", says, (_denied(stage, column=column),), (), None, decides=False)
    for asked, how in (("direct", "answers directly"), ("free", "may choose to think")):
        says = f"Replies that deny it where the model {how}, {NAMES[DPO]} minus {NAMES[AFTER]}."
        sides = [(_denied(stage, asked=asked),) for stage in (DPO, AFTER)]
        yield Contrast(f"dpo_{asked}", says, *sides, None, decides=False)
    for family in FAMILIES:
        says = f'Replies that deny it, family "{family}", {NAMES[DPO]} minus {NAMES[AFTER]}.'
        sides = [(_denied(stage, family),) for stage in (DPO, AFTER)]
        yield Contrast(f"dpo_{family}", says, *sides, None, decides=False)
    says = f"Answers to ordinary questions about the sound that deny it, {NAMES[DPO]} minus {NAMES[AFTER]}."
    yield Contrast("dpo_sound", says, (_denied(DPO, "sound"),), (_denied(AFTER, "sound"),), None, decides=False)


def _price() -> Iterator[Contrast]:
    sides = [(answered(stage, "identity", arm=ARM),) for stage in (DPO, AFTER)]
    says = f"Questions of identity are answered right more often {NAMES[DPO]} than {NAMES[AFTER]}."
    yield Contrast("identity_accuracy", says, *sides, "above", decides=False)
    for group in ("perceptual", "content"):
        sides = [(answered(stage, group, arm=ARM),) for stage in (DPO, AFTER)]
        says = f"Price of DPO: right answers to {group} questions, thinking, {NAMES[DPO]} minus {NAMES[AFTER]}."
        yield Contrast(f"price_{group}", says, *sides, None, decides=False)
    for name, about in (("grounded_share", "grounded chains"), ("claim_precision", "true claims")):
        sides = [(measured(stage, name, arm=ARM),) for stage in (DPO, AFTER)]
        says = f"Price of DPO: {about}, {NAMES[DPO]} minus {NAMES[AFTER]}."
        yield Contrast(f"price_{name}", says, *sides, None, decides=False)


def _second_design() -> Iterator[Contrast]:
    """Written after the first had been seen, so that nothing of it decides."""
    for name, later, earlier in (("self_distillation", SELF_DISTILLED, AFTER), ("DPO", DPO, SELF_DISTILLED)):
        sides = [(_denied(stage, arm=SECOND),) for stage in (later, earlier)]
        says = f"Second design: replies deny hearing less often {NAMES[later]} than {NAMES[earlier]}."
        yield Contrast(f"second_{name}", says, *sides, "below", decides=False)
        sides = [(answered(stage, "identity", arm=SECOND),) for stage in (later, earlier)]
        says = (
            f"Second design: questions of identity are answered right more often {NAMES[later]} than {NAMES[earlier]}."
        )
        yield Contrast(f"second_{name}_accuracy", says, *sides, "above", decides=False)
        sides = [(answered(stage, arm=SECOND),) for stage in (later, earlier)]
        says = f"Second design, price: right answers to perceptual questions, {NAMES[later]} minus {NAMES[earlier]}."
        yield Contrast(f"second_{name}_price", says, *sides, None, decides=False)


SWEEP = Sweep(
    name="self_cognition",
    claim="Iterated self-distillation lowers self-cognition errors, and DPO ends them",
    evidence="Table 3, n = 5000, one run: 6.76 % base, 2.63 % after distillation, 0.02 % after DPO",
    arms=(ARM, SECOND),
    tables={
        "denials": denials((*STAGES, SELF_DISTILLED, DPO)),
        "accuracy": accuracies((*STAGES, SELF_DISTILLED, DPO), groups=("all", "perceptual", "content", "identity")),
        "measures": measures,
    },
    contrasts=(*_steps(), *_told(), *_price(), *_second_design()),
)
