"""Promise: an answer counts as the one choice or number it states, and as nothing where that is in doubt."""

import random
from fractions import Fraction

import pytest

from step_audio_r1.text.answers import extract_choice, extract_number, is_number, normal_text

CHOICES = ("cat", "dog", "wild cat", "bird")


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        *((text, "dog") for text in ("B", "b", "B.", "(b)", "**B**", "B)", "B. dog", "(B) dog", "b: Dog!", "dog")),
        *((text, "dog") for text in ("DOG.", "It is a dog.", "The answer is B.", "Answer: (B)", "I choose (B).")),
        *((text, "dog") for text in ("\\boxed{B}", "A dog", "The answer is A dog", "Option B: dog", "答案是B")),
        *((text, "wild cat") for text in ("a wild cat", "C. wild cat", "C. it growls, unlike a cat or a dog")),
        ("A", "cat"),
        *((text, None) for text in ("", "E", "(E)", "B. cat", "cat or dog", "neither", "(A) or (B)", "hotdogs")),
    ],
)
def test_choices(text, choice):
    assert extract_choice(text, CHOICES) == choice


def test_choices_that_differ_little():
    assert extract_choice("3.5", ("35", "3.5")) == "3.5"
    assert extract_choice("-5", ("5", "-5")) == "-5"
    assert extract_choice("c#", ("C", "C#")) == "C#"
    assert extract_choice("!", ("?", "!")) == "!"
    assert extract_choice("答案是猫", ("猫", "狗")) == "猫"
    assert extract_choice("B", ("b", "a")) is None  # the letter says a, the text says b
    assert extract_choice("x", ()) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("42", 42),
        ("1,234.50 dollars", Fraction("1234.5")),
        ("-5", -5),
        ("−5 °C", -5),
        ("minus five", -5),
        ("it fell from 3-5", 5),
        ("$7.", 7),
        ("5km", 5),
        ("3/4", Fraction(3, 4)),
        ("1 1/2", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("０７", 7),
        ("twenty-one apples", 21),
        ("Ninety nine", 99),
        ("one hundred", 100),
        ("a hundred and five", 105),
        ("\\boxed{7} of 9", 7),
        ("5 + 7 = 12", 12),
        ("The answer is 12. It has 3 parts.", 12),
        ("答案是5", 5),
        ("1/0", None),
        ("someone", None),
        ("x2", None),
        ("", None),
        ("9" * 100_000, None),
    ],
)
def test_numbers(text, number):
    assert extract_number(text) == number


def test_every_number_word_up_to_one_hundred():
    units = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
    ]
    units += ["sixteen", "seventeen", "eighteen", "nineteen"]
    tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    names = units + [f"{ten}{tail}" for ten in tens for tail in ("", *(f"-{unit}" for unit in units[1:10]))]
    assert [extract_number(name) for name in [*names, "one hundred"]] == list(range(101))
    assert all(is_number(name) for name in names)


def test_what_is_a_number_and_nothing_else():
    assert is_number("1,000") and is_number(" -3.5. ") and is_number("50%") and is_number("a hundred")
    assert not is_number("5 apples") and not is_number("sad") and not is_number("") and not is_number("1 2")


def test_nothing_raises():
    rng = random.Random(0)
    pieces = [
        "A",
        "b",
        "(",
        ")",
        ".",
        " ",
        "-",
        "/",
        "0",
        "12",
        ",",
        "1e9",
        "one",
        "hundred",
        "cat",
        "\\boxed{",
        "}",
    ]
    pieces += ["½", "²", "٣", "answer is", "猫", "\n", "\x00", "\ud800"]
    for _ in range(3000):
        text = "".join(rng.choice(pieces) for _ in range(rng.randrange(10)))
        assert extract_choice(text, CHOICES) == extract_choice(text, CHOICES)
        assert extract_number(text) == extract_number(text)
        normal_text(text)
