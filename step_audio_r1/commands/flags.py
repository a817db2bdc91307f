"""Types of flags that are numbers within bounds; argparse names the flag in its one line."""

import argparse


def not_negative(text: str) -> int:
    """A whole number from 0 to 2^31 - 1, as seeds are."""
    return _between(text, 0)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _between(text, 1)


def _between(text: str, least: int) -> int:
    if not text.isdecimal() or not least <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {2**31 - 1}")
    return int(text)
