"""Promise: a clip depends on (split, index) alone, and its sound holds what its truth and labels say."""

import hashlib
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from step_audio_r1.data.world import clips, contact_sheet, environment, music, speech
from step_audio_r1.data.world import truth as world
from step_audio_r1.errors import BadInput

FRAME = speech.SAMPLE_RATE // clips.FRAMES_PER_SECOND


def digest(split: str, index: int) -> str:
    clip, _, labels = clips.make_clip(split, index)
    arrays = (clip.waveform, labels.content, labels.pitch, labels.loudness, labels.rate)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def runs(track: np.ndarray) -> list[tuple[int, int, int]]:
    """(class, first frame, end frame) of each unbroken stretch of a class other than 0."""
    edges = np.flatnonzero(np.diff(track, prepend=0, append=0))
    return [(int(track[a]), int(a), int(b)) for a, b in itertools.pairwise(edges) if track[a]]


def inner(waveform: np.ndarray, first: int, end: int) -> np.ndarray:
    """Samples of the frames [first + 1, end - 1): whole frames, away from both ends."""
    return waveform[(first + 1) * FRAME : (end - 1) * FRAME].astype(np.float64)


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def fundamental_hz(samples: np.ndarray, lowest: float, highest: float) -> float:
    """The shortest lag at which the autocorrelation peaks, as a frequency; its multiples peak as well."""
    spectrum = np.fft.rfft(samples - samples.mean(), 2 * len(samples))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: len(samples)]
    correlation /= np.arange(len(samples), 0, -1)
    first, end = int(speech.SAMPLE_RATE / highest), int(speech.SAMPLE_RATE / lowest) + 1
    lags = np.arange(first, end)
    here = correlation[lags]
    peaks = (here >= correlation[lags - 1]) & (here >= correlation[lags + 1]) & (here > 0.85 * here.max())
    return speech.SAMPLE_RATE / lags[np.argmax(peaks)]


def spoken(pitch="low", rate="slow", loudness="loud", words=("they", "love", "my", "town")):
    return {"domain": "speech", "words": list(words), "pitch": pitch, "rate": rate, "loudness": loudness}


def test_the_same_index_gives_the_same_bytes_after_other_clips_and_in_a_fresh_process():
    indices = list(range(6))
    before = [digest("train", index) for index in indices]
    digest("test", 3)
    assert [digest("train", index) for index in reversed(indices)] == before[::-1]
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_clips\n"
        "test_clips.digest('test', 0)  # espeak remembers its first utterance\n"
        "print(*[test_clips.digest('train', i) for i in (5, 0, 3)])"
    )
    command = [sys.executable, "-c", program, os.path.dirname(__file__)]
    fresh = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert fresh == [before[5], before[0], before[3]]


def test_espeak_keeps_nothing_from_other_utterances():
    first, times = speech.speak(["we", "fear", "the", "dog"], 20, 120)
    for pitch, rate in itertools.product((0, 40, 99), (90, 173, 300)):
        speech.speak_sentence("Okay, I understand!", pitch, rate, pitch_range=pitch)
        again, times_again = speech.speak(["we", "fear", "the", "dog"], 20, 120)
        np.testing.assert_array_equal(again, first)
        assert times_again == times


def test_splits_and_indices_differ():
    assert len({digest(split, index) for split in world.SPLITS for index in range(6)}) == 24


def test_form_of_a_clip():
    for index in range(12):
        clip, truth, labels = clips.make_clip("validation", index)
        assert clip.waveform.shape == (51200,) and clip.waveform.dtype == np.float32
        assert clip.sample_rate == 16000 and clip.id == world.clip_id("validation", index)
        assert np.isfinite(clip.waveform).all() and np.abs(clip.waveform).max() <= 1
        assert np.mean(np.abs(clip.waveform) == 1) < 1e-3
        assert truth == world.sample_truth("validation", index)
        for track in (labels.content, labels.pitch, labels.loudness, labels.rate):
            assert track.shape == (80,) and track.dtype == np.int8
        assert ((labels.content == 0) == (labels.pitch + labels.loudness + labels.rate == 0)).all()


def test_labels_are_in_the_order_of_the_truth():
    for index in range(60):
        _, truth, labels = clips.make_clip("train", index)
        content = [clips.CONTENT_CLASSES[label] for label, _, _ in runs(labels.content)]
        pitches = [clips.PITCH_CLASSES[label] for label, _, _ in runs(labels.pitch)]
        rates = {clips.RATE_CLASSES[label] for label in labels.rate} - {"none"}
        loudnesses = [clips.LOUDNESS_CLASSES[label] for label, _, _ in runs(labels.loudness)]
        if truth["domain"] == "speech":
            assert content == truth["words"]
            assert pitches == [f"voice {truth['pitch']}"]
            assert rates == {truth["rate"]} and loudnesses == [truth["loudness"]]
        elif truth["domain"] == "environment":
            assert content == [event["kind"] for event in truth["events"]]
            assert loudnesses == [event["loudness"] for event in truth["events"]]
            assert not pitches and not rates
        else:
            assert content == [truth["timbre"]] * len(truth["notes"])
            assert pitches == truth["notes"]
            assert not rates and not loudnesses


def test_every_word_of_the_fastest_speech_has_a_frame():
    shortest = []
    for subject, verb in itertools.product(world.SUBJECTS, world.VERB_EMOTION):
        for determiner, pitch in itertools.product(world.DETERMINERS, (8, 95)):
            words = ["okay", subject, verb, determiner, world.OBJECTS[len(shortest) % len(world.OBJECTS)]]
            _, times = speech.speak(words, pitch, clips.VOICE_RATE_WPM["fast"][1] - 1)
            shortest.append(min(end - start for _, start, end in times))
    assert min(shortest) > 1 / clips.FRAMES_PER_SECOND


def test_the_slowest_sentences_fit_with_a_margin():
    slowest = clips.VOICE_RATE_WPM["slow"][0]
    for verb, noun in itertools.product(world.VERB_EMOTION, world.OBJECTS):
        words = ["okay", "they", verb, "this", noun]
        for pitch in (8, 95):
            waveform, _ = speech.speak(words, pitch, slowest)
            assert len(waveform) / speech.SAMPLE_RATE + 2 * 0.05 < world.CLIP_SECONDS - 0.1, words


def test_slow_and_fast_speech_are_apart_in_every_sentence():
    for verb in world.VERB_EMOTION:
        words = ["we", verb, "the", "song"]
        slow, _ = speech.speak(words, 20, clips.VOICE_RATE_WPM["slow"][1] - 1)
        fast, _ = speech.speak(words, 20, clips.VOICE_RATE_WPM["fast"][0])
        assert len(slow) > 1.4 * len(fast)


def test_events_are_as_loud_as_labelled():
    for index in range(1, 120, 3):
        clip, truth, labels = clips.make_clip("train", index)
        for event, (_, first, end) in zip(truth["events"], runs(labels.content), strict=True):
            level = rms(inner(clip.waveform, first, end))
            assert (level > 0.05) == (event["loudness"] == "loud"), (index, event, level)


def test_speech_is_as_loud_as_labelled():
    for index in range(0, 120, 3):
        clip, truth, labels = clips.make_clip("train", index)
        frames = np.flatnonzero(labels.content)
        level = rms(clip.waveform[frames[0] * FRAME : (frames[-1] + 1) * FRAME])
        assert (level > 0.05) == (truth["loudness"] == "loud"), (index, level)


def test_notes_have_the_pitch_of_their_level():
    for index in range(2, 62, 3):
        clip, truth, labels = clips.make_clip("train", index)
        for level, (_, first, end) in zip(truth["notes"], runs(labels.pitch), strict=True):
            hertz = fundamental_hz(inner(clip.waveform, first, end), 180, 900)
            assert hertz == pytest.approx(music.LEVEL_HZ[level], rel=0.045), (index, level)


def test_high_voices_are_higher_than_low_voices():
    voices = {}
    for pitch in world.PITCHES:
        medians = []
        for seed, rate in itertools.product(range(4), world.RATES):
            waveform, labels = clips.synthesise(spoken(pitch, rate), np.random.default_rng(seed))
            frames = np.flatnonzero(labels.pitch)
            windows = [waveform[s * FRAME - FRAME : (s + 2) * FRAME].astype(np.float64) for s in frames[1:-1]]
            medians.append(np.median([fundamental_hz(w, 50, 300) for w in windows if rms(w) > 0.05]))
        voices[pitch] = medians
    assert min(voices["high"]) > 1.4 * max(voices["low"]), voices


def test_probe_speaks_only_the_canonical_words():
    indices = set()
    for index in range(12):
        _, truth, labels = clips.make_clip("probe", index)
        assert truth["words"] == list(world.PROBE_WORDS)
        indices |= set(labels.content)
    assert {clips.CONTENT_CLASSES[label] for label in indices} == {"silence", *world.PROBE_WORDS}


def test_classes_have_no_name_twice():
    for classes in (
        clips.CONTENT_CLASSES,
        clips.PITCH_CLASSES,
        clips.LOUDNESS_CLASSES,
        clips.RATE_CLASSES,
    ):
        assert len(set(classes)) == len(classes)
    assert clips.CONTENT_CLASSES[0] == "silence" and list(clips.WORDS) == sorted(clips.WORDS)


@pytest.mark.parametrize(
    "truth",
    [
        {"domain": "film"},
        {"domain": "music", "timbre": "flute"},
        {"domain": "environment", "events": []},
        {"domain": "environment", "events": [{"kind": "beep", "loudness": "soft"}] * 9},
        {"domain": "environment", "events": [{"kind": "bark", "loudness": "soft"}]},
        {"domain": "environment", "events": [{"kind": "beep", "loudness": "huge"}]},
        {"domain": "music", "timbre": "kazoo", "notes": ["low"]},
        {"domain": "music", "timbre": "flute", "notes": ["lower"]},
        spoken(pitch="middle"),
        spoken(words=("they", "zzz")),
        spoken(words=world.OBJECTS * 2),
    ],
)
def test_a_truth_outside_the_world_is_refused_in_one_line(truth):
    with pytest.raises(BadInput) as caught:
        clips.synthesise(truth, np.random.default_rng(0))
    assert "\n" not in str(caught.value)


def test_hand_written_extremes_are_labelled_whole():
    events = [{"kind": kind, "loudness": "loud"} for kind in world.EVENT_KINDS]
    waveform, labels = clips.synthesise({"domain": "environment", "events": events}, np.random.default_rng(0))
    assert np.abs(waveform).max() <= 1
    assert [clips.CONTENT_CLASSES[label] for label, _, _ in runs(labels.content)] == list(world.EVENT_KINDS)


def test_speak_sentence_times_follow_the_text():
    waveform, times = speech.speak_sentence("Okay, I understand.", pitch=15, rate_wpm=220)
    assert waveform.dtype == np.float32 and np.abs(waveform).max() > 0.1
    assert [word for word, _, _ in times] == ["Okay", "I", "understand"]
    ends = [0.0, *(end for _, _, end in times)]
    assert all(start >= end for (_, start, _), end in zip(times, ends[:-1], strict=True))
    assert ends[-1] == pytest.approx(len(waveform) / speech.SAMPLE_RATE, abs=0.001)
    for arguments in ({"text": " "}, {"text": "hi", "pitch": 100}, {"text": "hi", "rate_wpm": 20}):
        with pytest.raises(BadInput):
            speech.speak_sentence(**arguments)


def test_event_kinds_and_levels_are_all_made():
    rng = np.random.default_rng(0)
    for kind, loudness in itertools.product(world.EVENT_KINDS, world.LOUDNESSES):
        event = environment.make_event(kind, loudness, 0.3, rng)
        assert event.dtype == np.float32 and len(event) == 4800
        assert rms(event) == pytest.approx(environment.EVENT_RMS[loudness], rel=1e-3)
    for level, timbre in itertools.product(world.LEVELS, world.TIMBRES):
        assert 0.059 < rms(music.make_note(level, timbre, 0.5, rng)) < 0.121


def test_contact_sheet_is_one_page_under_6_mb(tmp_path):
    page = tmp_path / "sheet.html"
    contact_sheet.write_contact_sheet(page)
    text = page.read_text()
    assert len(text) < 6e6
    assert text.count("<audio controls") == text.count("data:image/png") == 20
    assert "http" not in text
    for name in (*world.EVENT_KINDS, *world.TIMBRES):
        assert name in text
