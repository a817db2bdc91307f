"""Promise: words about the sound, about a text in its place and about the writer are told apart."""

import random

import pytest

from step_audio_r1.data.world.examples import examples, vocabulary
from step_audio_r1.mgrd.lexicon import read_wording, self_cognition, words

ACOUSTIC = [
    ("hear siren soft zero ; click loud one so one", {"hearing", "events", "loudness"}),
    ("hear high slow voice so afraid", {"hearing", "pitch", "tempo", "timbre"}),
    ("hear mid ; high up one ; low down one so one", {"hearing", "pitch"}),
    (
        "The voice trembles and its pitch falls; long pauses, little volume.",
        {"timbre", "prosody", "loudness"},
    ),
    ("A MINOR  KEY with strong reverb and a hiss in the spectrum", {"pitch", "space", "spectrum"}),
    ("hear top ; top same zero", {"hearing", "pitch"}),
    ("The groove is syncopated", {"rhythm"}),
    ("说话人的语速很慢,音调低沉,带有明显的停顿和哽咽。", {"tempo", "pitch", "prosody"}),
    ("背景有警笛和混响,频谱集中在低频,鼓的节奏清楚,音量渐强", {"events", "space", "spectrum", "rhythm"}),
]
NOT_ACOUSTIC = [
    "She is sad because her dog died.",
    "She feels down, and the same page is at the top. No stress, she gave up.",
    "Highway to upstream, softwarely fasten slowpoke",
    "他很难过,因为他的狗死了。",
    "",
    "so ; so",
]
SURROGATE = [
    "caption siren loud one ; click soft one so one",
    "The transcript says that she is fine.",
    "According to the caption, it is a dog.",
    "The text says 'okay', the words say yes",
    "Since the lyrics mention sadness, the mood is sad.",
    "As written, the sentence is neutral.",
    "字幕显示他说好的。",
    "歌词提到悲伤,所以情绪是悲伤。",
    "根据文本,她同意了。",
]
SELF = [
    "I cannot hear the clip, but it is likely sad.",
    "I can’t  hear anything, so I guess.",
    "As a text-based assistant I must infer",
    "The user wrote that they are happy.",
    "Since no audio was provided, I assume the best.",
    "我听不到音频,只能猜测。",
    "作为一个语言模型,我无法处理音频。",
    "用户写道他很开心。",
]
NOT_SELF = [
    "I hear a low voice.",
    'The caller says "I can\'t hear you" twice, and louder the second time.',
    "她对着电话喊“我听不到”,声音越来越大。",
    "She cannot hear him over the siren.",
    "hear siren soft zero so zero",
]


@pytest.mark.parametrize(("text", "groups"), ACOUSTIC)
def test_acoustic_words_are_found_by_group(text, groups):
    wording = read_wording(text)
    assert groups <= set(wording.groups), wording
    assert wording.names_features and not wording.surrogates and 0 < wording.share <= 1


@pytest.mark.parametrize("text", NOT_ACOUSTIC)
def test_other_words_and_parts_of_words_do_not_count(text):
    wording = read_wording(text)
    assert not wording.groups and not wording.surrogates and wording.share == 0


def test_hearing_alone_names_no_feature():
    wording = read_wording("hear i love my dog so dog")
    assert set(wording.groups) == {"hearing"} and not wording.names_features


@pytest.mark.parametrize("text", SURROGATE)
def test_a_text_in_the_place_of_the_sound_is_found(text):
    assert read_wording(text).surrogates


@pytest.mark.parametrize("text", SELF)
def test_a_writer_who_denies_hearing_is_found(text):
    assert self_cognition(text)


@pytest.mark.parametrize("text", NOT_SELF)
def test_listeners_and_people_they_quote_are_not(text):
    assert not self_cognition(text)


def test_the_share_counts_words():
    assert read_wording("loud and clear").share == pytest.approx(1 / 3)
    assert read_wording("音高 x").share == pytest.approx(2 / 3)
    assert words("Don't go, 你好!") == ["don't", "go", "你", "好"]


def test_the_two_arms_of_the_audio_world_are_told_apart():
    grounded = list(examples("audio_grounded", "train", 300))
    assert all(read_wording(e.think).groups and not read_wording(e.think).surrogates for e in grounded)
    assert all(read_wording(e.think).names_features for e in grounded if e.perceptual)
    surrogate = list(examples("text_caption", "train", 300))
    assert all(read_wording(e.think).surrogates for e in surrogate)


def test_any_text_can_be_read():
    rng = random.Random(0)
    pool = [
        *vocabulary(),
        "caption",
        "“",
        '"',
        "「",
        "I cannot",
        "音",
        "字幕",
        "\u2028",
        "\x00",
        "é" * 3,
        "\n",
    ]
    for _ in range(1000):
        text = " ".join(rng.choices(pool, k=rng.randrange(30)))
        wording = read_wording(text)
        assert 0 <= wording.share <= 1 and isinstance(self_cognition(text), tuple)
