"""Made-up rows of the authors' files, for generators and for two sets of gold answers, and the items that they make."""

import functools
import random
import tempfile
from pathlib import Path

import independent
from independent_instructions import mmau_pro_instruction
from independent_numbers import spoken_mqa
from made_predictions import OPTIONS

from step_audio_r1.benchmarks import BENCHMARKS
from step_audio_r1.files import write_json, write_jsonl

SEED = 7


def choices(rng, number, gold, least=2, most=6):
    """Options, at times with two that are equal, and the place of the right one, so that each of `OPTIONS` is right."""
    right = OPTIONS[number % len(OPTIONS)]
    options = rng.sample([option for option in OPTIONS if option != right], rng.randint(least, most) - 1)
    if len(options) > 1 and rng.random() < 0.1:
        options[-1] = rng.choice((right, options[0]))
    options.insert(rng.randrange(len(options) + 1), right)
    return options, (options.index(right) + gold) % len(options)


def mmau_rows(rng, gold):
    for n in range(40):
        options, at = choices(rng, n, gold)
        yield {
            "id": f"u{n}",
            "audio_id": f"{n}.wav",
            "audio_path": f"{n}.wav",
            "question": "Which is heard?",
            "choices": options,
            "answer": options[at],
            **dict.fromkeys(("category", "sub-category", "dataset", "modality"), "x"),
            "task": "sound",
            "difficulty": "easy",
        }


def lettered_rows(rng, gold):
    for n in range(40):
        options, at = choices(rng, n, gold, 3, 4)
        yield {
            "id": f"u{n}",
            "uniq_id": n,
            "path": f"{n}.wav",
            "question": "Which is heard?",
            **{f"choice_{letter}": option for letter, option in zip("abcd", options, strict=False)},
            "answer_gt": options[at],
            **dict.fromkeys(("task_name", "dataset_name", "category", "sub-category"), "x"),
        }


def mmsu_rows(rng, gold):
    for row in lettered_rows(rng, gold):
        yield {**row, "choice_d": row.get("choice_d", "d"), "audio_path": row["path"]}


def bigbench_rows(rng, gold):
    golds = {
        "formal_fallacies": ("valid", "invalid"),
        "navigate": ("Yes", "No"),
        "object_counting": ("7", "42", "105", "3"),
        "web_of_lies": ("No", "Yes"),
    }
    for n in range(40):
        category = tuple(golds)[n % 4]
        answer = golds[category][(rng.randrange(4) + gold) % len(golds[category])]
        yield {"id": n, "file_name": f"data/{n}.mp3", "category": category, "official_answer": answer}


def spoken_mqa_rows(rng, gold):
    golds = ("7", "42", "-3", "3", "0.75", "1234.5", "34", "5", "-1", "20", "100", "1")
    for n in range(40):
        answer = golds[(rng.randrange(len(golds)) + gold) % len(golds)]
        split = ("short_digit", "long_digit", "single_step_reasoning", "multi_step_reasoning")[n % 4]
        if "reasoning" in split:
            answer = [rng.choice((answer, f"So it is. #### {answer}", f"{answer}.0" if "." not in answer else answer))]
        yield {
            "id": f"u{n}",
            "split": split,
            "context": f"{n}.wav",
            "context_transcript": "What is it?",
            "instruction": {"text": "Solve."},
            "answer": {"text": answer},
        }


def speechr_rows(rng, gold):
    for n in range(40):
        options, at = choices(rng, n, gold, 2, 5)
        if n % 4 == 0:
            options, at = rng.choice((["Yes", "No"], ["No.", "yes"], ["True", "False"])), (n // 4 + gold) % 2
        yield {
            "id": f"Commonsense-{n}",
            "question": "Which is said?",
            "options": options,
            "label": at + 1,
            "instruction": "Choose.",
            "prompt": "Choose.\nA. x",
            "audio_path": f"a/{n}.wav",
        }


def audiobench_rows(rng, gold):
    for n in range(40):
        options, at = choices(rng, n, gold)
        options = [f"({letter}) {option}" for letter, option in zip(independent.UPPER, options, strict=False)]
        yield {
            "context": f"{n}.wav",
            "instruction": "Which is heard?",
            "answer": {"text": options[at], "audio": None} if n % 8 == 0 else options[at],
            "choices": options,
            "other_attributes": {"task": "sound"},
        }


# As VoiceBench's are made; theirs are not repeated here.
TEMPLATES = [
    *(
        "答案是[CHOICE]",
        "是[CHOICE]：",
        "answer is: **[CHOICE]",
        "[CHOICE] is the best answer",
        "the answer is [CHOICE]",
    ),
    *(
        "would choose [CHOICE]",
        "is **[CHOICE])",
        "option [CHOICE],",
        "\\boxed{[CHOICE]}",
        "is ([CHOICE])",
        " [CHOICE].",
    ),
    *(" [CHOICE],", " [CHOICE])", "**[CHOICE].", "([CHOICE])", '"[CHOICE]"'),
]


def voicebench_rows(rng, gold):
    for n in range(40):
        options, at = choices(rng, n, gold, 4, 4)
        said = " ".join(f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True))
        yield {"audio": f"{n}.wav", "prompt": f"Which is heard? {said}", "reference": "ABCD"[at]}


def urobench_rows(rng, gold):
    for n in range(40):
        said = OPTIONS[(n + gold) % len(OPTIONS)]
        yield {"id": n, "source_wav": f"wav/{n}.wav", "source_text": "Say it.", "target_text": f"{said}, {said}"}


KWARGS = {
    "Include Keywords": {"keywords": "dog, Cat"},
    "Forbidden Words": {"forbidden_words": "dog, valid"},
    "Keyword Frequency": {"keyword": "Dog", "N": 1},
    "Number Paragraphs": {"N": 2},
    "Number Words (at least)": {"N": 3},
    "Number Words (at most)": {"N": 3},
    "Number Words (range)": {"N1": 2, "N2": 4},
    "All-capital Words (at least)": {"N": 1},
    "All-capital Words (at most)": {"N": 1},
    "All-capital Words (range)": {"N1": 1, "N2": 2},
    "Postscript": {"postscript_marker": "P.S."},
    "Number Placeholder": {"N": 1},
    "Number Bullets": {"N": 2},
    "Title": None,
    "Minimum Number Highlighted Section": {"N": 1},
    "Multiple Sections": {"N": 2, "section_splitter": "***"},
    "Repeat Prompt": None,
    "Two Responses": {},
    "All Uppercase": None,
    "All Lowercase": None,
    "Quotation": None,
    "No Commas": None,
    "Start Checker": {"start_phrase": "The answer!"},
    "End Checker": {"end_phrase": "dog."},
    "Unknown": {"N": 1},
}


def mmau_pro_rows(rng, gold):
    for n, (identifier, kwargs) in enumerate(KWARGS.items()):
        yield {
            "id": f"u{n}",
            "audio_path": [f"{n}.wav"],
            "question": "Dog",
            "choices": [],
            "answer": None,
            "category": "instruction following",
            "task_identifier": identifier,
            "kwargs": kwargs,
        }


# By benchmark: name of the file, its rows for a generator and for two sets of gold answers, and the authors' rule.
SUBJECTS = {
    "mmau": ("a.json", mmau_rows, independent.mmau),
    "mmar": ("a.jsonl", mmau_rows, independent.mmar),
    "mmsu": ("a.jsonl", mmsu_rows, independent.mmsu),
    "airbench": ("a.json", lettered_rows, independent.airbench_foundation),
    "bigbench_audio": ("metadata.jsonl", bigbench_rows, None),
    "spoken_mqa": ("a.jsonl", spoken_mqa_rows, spoken_mqa),
    "speechr": ("a.jsonl", speechr_rows, independent.speechr),
    "audiobench": ("a.json", audiobench_rows, independent.audiobench_mmau),
    "voicebench": ("law.jsonl", voicebench_rows, functools.partial(independent.voicebench, TEMPLATES)),
    "urobench": ("Repeat/test.jsonl", urobench_rows, None),
    "mmau_pro": ("a.jsonl", mmau_pro_rows, mmau_pro_instruction),
}


@functools.cache
def subject(name, gold=0):
    """The authors' rows and their items, with one or other set of gold answers."""
    file, rows, _ = SUBJECTS[name]
    rows = list(rows(random.Random(f"{SEED} {name}"), gold))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, file)
        if name == "voicebench":
            write_json(
                path.with_name("voicebench_mcq_templates.json"), {"source": "x", "licence": "x", "templates": TEMPLATES}
            )
        (write_json if file.endswith(".json") else write_jsonl)(path, rows)
        return rows, BENCHMARKS[name].read(path).items
