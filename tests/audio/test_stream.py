"""Promise: a recording of any length becomes the chunks of the whole clip, bit for bit, in a few MiB of memory."""

import tracemalloc

import numpy as np
import pytest
import soundfile

from step_audio_r1.audio import (
    CHUNK_SAMPLES,
    AudioClip,
    AudioStream,
    chunks,
    decode_audio,
    read_audio,
    resample,
    stream_chunks,
)
from step_audio_r1.errors import BadInput

CODECS = {
    "wav": ("WAV", "FLOAT"),
    "aiff": ("AIFF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def noise(samples, channels=1, seed=0):
    wave = np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, channels)).astype(np.float32)
    return wave if channels > 1 else wave[:, 0]


def write(path, wave, rate):
    kind, subtype = CODECS[path.suffix[1:]]
    soundfile.write(path, wave, rate, format=kind, subtype=subtype)
    return path


def equal(ours, wanted):
    assert [len(chunk) for chunk in ours] == [len(chunk) for chunk in wanted]
    for a, b in zip(ours, wanted):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)


# 25 s, its neighbours, and the shortest tail that is kept, at 16 kHz.
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("more", [-1, 0, 1, 321 / 16000])
def test_chunks_around_the_cut_are_the_resampled_whole(tmp_path, rate, more):
    wave = noise(25 * rate + (more if isinstance(more, int) else int(np.ceil(more * rate))))
    whole = resample(wave, rate, 16000)
    cut = [whole[:CHUNK_SAMPLES], whole[CHUNK_SAMPLES:]]
    kept = [piece for piece in cut if len(piece) >= 321]
    stream = AudioStream(write(tmp_path / "a.wav", wave, rate))
    assert stream.sample_rate == rate and stream.id == str(tmp_path / "a.wav") and stream.seconds is None
    equal(list(stream_chunks(stream)), kept)
    assert stream.seconds == len(wave) / rate
    equal(list(stream_chunks(stream, drop_short_tail=False)), [piece for piece in cut if len(piece)])
    equal(chunks(AudioClip(wave, rate, "a")), kept)


@pytest.mark.parametrize(
    "suffix, rate", [("aiff", 8000), ("flac", 44100), ("ogg", 48000), ("mp3", 22050), ("mp3", 44100)]
)
def test_containers_stream_as_they_are_read_whole(tmp_path, suffix, rate):
    path = write(tmp_path / f"a.{suffix}", noise(26 * rate, channels=2), rate)
    clip, stream = read_audio(path), AudioStream(path)
    np.testing.assert_array_equal(np.concatenate(list(stream.blocks())), clip.waveform)
    assert stream.seconds == clip.seconds
    equal(list(stream_chunks(stream)), chunks(clip))


def test_mp3_without_a_length_tag(tmp_path):
    data = write(tmp_path / "tagged.mp3", noise(160_000), 16000).read_bytes()
    untagged = data[data.index(data[:2], 4) :]
    (tmp_path / "a.mp3").write_bytes(untagged)
    whole = decode_audio(untagged, "a").waveform
    np.testing.assert_array_equal(np.concatenate(list(AudioStream(tmp_path / "a.mp3").blocks())), whole)


def test_nothing_heard_is_refused(tmp_path):
    for samples, message in ((320, "320 samples at 16 kHz"), (0, "holds no samples")):
        path = write(tmp_path / f"{samples}.wav", noise(samples), 16000)
        with pytest.raises(BadInput, match=message):
            list(stream_chunks(AudioStream(path)))


def test_what_the_head_tells_is_told_at_once(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("This is not sound.\n" * 50)
    told = {"none.wav": "No such file", "": "directory", "empty.wav": "0 bytes", "text.wav": "not wav"}
    for name, said in told.items():
        with pytest.raises(BadInput, match=said):
            AudioStream(tmp_path / name)


@pytest.mark.parametrize("suffix", CODECS)
def test_damage_is_told_as_by_reading_whole(tmp_path, suffix):
    path = write(tmp_path / f"a.{suffix}", noise(51 * 16000), 16000)
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(BadInput, match="cut short") as whole:
        read_audio(path)
    stream, heard = AudioStream(path), []
    with pytest.raises(BadInput) as streamed:
        heard.extend(stream_chunks(stream))
    assert str(streamed.value) == str(whole.value)
    assert stream.seconds is None  # a duration is only told of what was heard to its end


def test_damage_may_show_after_good_chunks(tmp_path):
    wave = noise(30 * 16000)
    wave[29 * 16000] = np.nan
    passing = stream_chunks(AudioStream(write(tmp_path / "a.wav", wave, 16000)))
    np.testing.assert_array_equal(next(passing), wave[:CHUNK_SAMPLES])
    with pytest.raises(BadInput, match="sample 464000 is nan"):
        next(passing)


def write_long(path, rate, channels, seconds):
    """Blocks of 10 s of noise, each louder than the last."""
    kind, _ = CODECS[path.suffix[1:]]
    block = noise(10 * rate, channels)
    with soundfile.SoundFile(path, "w", rate, channels, format=kind, subtype="PCM_16") as file:
        for i in range(seconds // 10):
            file.write(block * ((i + 1) / (seconds // 10)))


# Decoded, an hour at 8 kHz takes 110 MiB, and 220 MiB at 16 kHz; ten minutes of 44.1 kHz stereo take 202 MiB.
@pytest.mark.parametrize("suffix, rate, channels, minutes", [("wav", 8000, 1, 60), ("flac", 44100, 2, 10)])
def test_memory_does_not_grow_with_the_recording(tmp_path, suffix, rate, channels, minutes):
    path = tmp_path / f"long.{suffix}"
    write_long(path, rate, channels, 60 * minutes)
    list(stream_chunks(AudioClip(noise(rate), rate, "a second")))  # the kernel, which is kept, is no part of the sum
    stream, lengths, loudness = AudioStream(path), [], []
    tracemalloc.start()
    for chunk in stream_chunks(stream):
        lengths.append(len(chunk))
        loudness.append(np.square(chunk).mean())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lengths == [CHUNK_SAMPLES] * (minutes * 60 // 25) and stream.seconds == 60 * minutes
    assert np.all(np.diff(loudness) > 0)
    assert peak < 16 << 20
