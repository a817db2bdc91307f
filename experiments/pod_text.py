"""Lines of a plan for a terminal, and numbers that claim no more than an estimate can."""

import math
import textwrap

WIDTH = 100


def wrapped(text: str, mark: str = "") -> list[str]:
    """Lines that fit a terminal; the first begins with the mark, the others below its text."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_long_words=False,
        break_on_hyphens=False,
    )


def two_digits(number: float) -> str:
    """A number as far as an estimate is good for; "unknown" for nan."""
    if math.isnan(number):
        return "unknown"
    number = float(f"{number:.1e}")
    return f"{number:,.{max(0, 1 - math.floor(math.log10(number)))}f}" if number else "0"
