"""The outcome of a check, in which an error is a state of its own and never a wrong answer."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What a verifier found.

    Attributes:
      score: a Python float in [0, 1]; nan if the check itself failed.
      reason: one line for logs and chain records.
      error: the check failed (bad gold, crashed or hung verifier): leave the sample out, do not score it.
    """

    score: float
    reason: str
    error: bool = False

    def __post_init__(self):
        # An int here would turn a reward array into integers, and 0.2 into 0.
        object.__setattr__(self, "score", float(self.score))
        if self.error != math.isnan(self.score):
            raise ValueError(f"a verdict is an error exactly if its score is nan, got {self}")

    @classmethod
    def failed(cls, reason: str) -> "Verdict":
        """The verdict of a check that could not be made."""
        return cls(math.nan, reason, error=True)
