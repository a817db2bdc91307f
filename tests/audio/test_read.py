"""Promise: every container comes back as written; bad sound is refused in one line that names the file."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from step_audio_r1.audio import AudioClip, decode_audio, encode_flac, read_audio
from step_audio_r1.audio.containers import mp3_length
from step_audio_r1.errors import BadInput


def tone(rate, seconds=1.0, channels=1):
    t = np.arange(int(rate * seconds)) / rate
    wave = np.stack([0.3 * np.sin(2 * np.pi * (300 + 200 * c) * t) for c in range(channels)], axis=1)
    return (wave if channels > 1 else wave[:, 0]).astype(np.float32)


def encode(wave, rate, kind, subtype, **options):
    out = io.BytesIO()
    soundfile.write(out, wave, rate, format=kind, subtype=subtype, **options)
    return out.getvalue()


def refusal(data_or_path):
    """The message with which reading fails; checked to be one line that begins with the name."""
    with pytest.raises(BadInput) as caught:
        if isinstance(data_or_path, bytes):
            name = "clip.bin"
            decode_audio(data_or_path, name)
        else:
            name = str(data_or_path)
            read_audio(data_or_path)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{name}: ")
    return message


WAV = encode(tone(16000), 16000, "WAV", "PCM_16")
FLAC = encode(tone(16000, 3), 16000, "FLAC", "PCM_16")
OGG = encode(tone(16000, 3), 16000, "OGG", "VORBIS")
MP3 = encode(tone(16000, 3), 16000, "MP3", "MPEG_LAYER_III")


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "suffix, kind, subtype, tolerance",
    [
        ("wav", "WAV", "PCM_16", 1e-4),
        ("wav", "WAV", "FLOAT", 0),
        ("wav", "WAV", "PCM_U8", 2e-2),
        ("aiff", "AIFF", "PCM_24", 1e-6),
        ("flac", "FLAC", "PCM_16", 1e-4),
        ("ogg", "OGG", "VORBIS", 0.05),
        ("mp3", "MP3", "MPEG_LAYER_III", 0.05),
    ],
)
def test_round_trip(tmp_path, rate, channels, suffix, kind, subtype, tolerance):
    wave = tone(rate, 1.5, channels)
    path = tmp_path / f"tone.{suffix}"
    path.write_bytes(encode(wave, rate, kind, subtype))
    clip = read_audio(path)
    first = wave if channels == 1 else wave[:, 0]
    assert clip.sample_rate == rate and clip.id == str(path) and clip.waveform.dtype == np.float32
    assert clip.waveform.shape == first.shape
    # Lossy codecs smear the two abrupt ends.
    inner = slice(rate // 10, -rate // 10)
    np.testing.assert_allclose(clip.waveform[inner], first[inner], atol=tolerance)


def test_more_than_one_block_and_many_channels():
    wave = np.random.default_rng(0).uniform(-1, 1, (40_000, 16)).astype(np.float32)
    clip = decode_audio(encode(wave, 16000, "WAV", "FLOAT"), "many")
    np.testing.assert_array_equal(clip.waveform, wave[:, 0])


def test_flac_of_a_clip_is_exact_for_16_bit_sound():
    pcm = np.array([-32768, -32767, -1, 0, 1, 32766, 32767], np.int16)
    clip = AudioClip(pcm.astype(np.float32) / 32768, 16000, "edge")
    back = decode_audio(encode_flac(clip), "edge")
    np.testing.assert_array_equal(back.waveform, clip.waveform)
    loud = decode_audio(encode_flac(AudioClip(np.array([2.0, -2.0], np.float32), 16000, "loud")), "loud")
    np.testing.assert_array_equal(loud.waveform, np.array([32767 / 32768, -1], np.float32))


@pytest.mark.parametrize(
    "waveform, rate, said",
    [([], 16000, "no samples"), ([0, np.nan], 16000, "sample 1 is nan"), ([0.0], 10_000_000, "10000000 Hz")],
)
def test_flac_of_a_bad_clip_is_refused(waveform, rate, said):
    with pytest.raises(BadInput, match=f"^bad: .*{said}"):
        encode_flac(AudioClip(np.array(waveform, np.float32), rate, "bad"))


def test_paths_that_are_no_file(tmp_path, monkeypatch):
    assert "No such file" in refusal(tmp_path / "missing.wav")
    assert "directory" in refusal(tmp_path)
    (tmp_path / "empty.wav").touch()
    assert "0 bytes" in refusal(tmp_path / "empty.wav")
    (tmp_path / "text.wav").write_text("This is not sound.\n" * 50)
    assert "is not wav" in refusal(tmp_path / "text.wav")
    (tmp_path / "locked.wav").write_bytes(WAV)

    # Not chmod: the superuser reads what nobody may.
    def locked(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", locked)
    assert "Permission denied" in refusal(tmp_path / "locked.wav")


@pytest.mark.parametrize(
    "kind, subtype", [("WAV", "PCM_16"), ("AIFF", "PCM_16"), ("OGG", "VORBIS"), ("FLAC", "PCM_16")]
)
def test_zero_length(kind, subtype):
    refusal(encode(np.zeros(0, np.float32), 16000, kind, subtype))
    assert len(decode_audio(encode(np.zeros(1, np.float32), 16000, kind, subtype), "one").waveform) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_sound(bad):
    wave = tone(16000)
    wave[123] = bad
    assert "sample 123 is" in refusal(encode(wave, 16000, "WAV", "FLOAT"))


@pytest.mark.parametrize("data", [FLAC, OGG, MP3, WAV, encode(tone(16000), 16000, "AIFF", "PCM_16")])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_cut_short(data, share):
    message = refusal(data[: int(len(data) * share)])
    assert "cut short" in message or "head is damaged" in message or "no samples" in message


@pytest.mark.parametrize("kind, subtype", [("OGG", "VORBIS"), ("FLAC", "PCM_16")])
def test_damaged_in_the_middle(kind, subtype):
    noise = 0.1 * np.random.default_rng(0).standard_normal(100_000)
    data = encode(noise, 16000, kind, subtype)
    damaged = bytearray(data)
    middle = len(data) // 2
    damaged[middle : middle + 300] = np.random.default_rng(0).integers(0, 256, 300, np.uint8).tobytes()
    assert "damaged or cut short" in refusal(bytes(damaged))


def test_ogg_page_that_decoders_would_skip():
    damaged = bytearray(OGG)
    damaged[-1] ^= 1
    assert "1 of its Ogg pages" in refusal(bytes(damaged))


def test_wav_header_that_claims_ten_hours():
    data = bytearray(WAV)
    struct.pack_into("<I", data, 40, 36_000 * 32_000)
    message = refusal(bytes(data))
    assert "36000.00 s" in message and "1.00 s can be decoded" in message


def test_flac_header_that_claims_weeks():
    data = bytearray(FLAC)
    data[21:26] = bytes([data[21] | 15]) + b"\xff" * 4
    assert "cut short" in refusal(bytes(data))


def test_lengths_left_open_by_a_pipe_are_read():
    wav = bytearray(WAV)
    struct.pack_into("<I", wav, 4, 0xFFFFFFFF)
    struct.pack_into("<I", wav, 40, 0xFFFFFFFF)
    assert len(decode_audio(bytes(wav), "piped").waveform) == 16_000
    flac = bytearray(FLAC)
    flac[21:26] = bytes([flac[21] & 0xF0]) + bytes(4)
    assert len(decode_audio(bytes(flac), "piped").waveform) == 48_000


def test_rf64_cut_short():
    data = encode(tone(16000), 16000, "RF64", "PCM_16")
    assert len(decode_audio(data, "rf64").waveform) == 16_000
    assert "cut short" in refusal(data[:20_000])


def test_trailing_bytes_do_no_harm():
    for data, frames in ((WAV, 16_000), (FLAC, 48_000), (OGG, 48_000), (MP3, 48_000)):
        assert len(decode_audio(data + b"TAG" + bytes(125), "tail").waveform) == frames


def test_joined_recordings_are_refused_not_halved():
    assert "2 Ogg streams" in refusal(OGG + OGG)
    assert "only the first part" in refusal(MP3 + MP3)


@pytest.mark.parametrize("loud_first", [True, False])
def test_mp3_without_a_length_tag_is_read_to_its_end(loud_first):
    noise = 0.3 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    parts = [noise, np.zeros(160_000, np.float32)]
    wave = np.concatenate(parts if loud_first else parts[::-1])
    data = encode(wave, 16000, "MP3", "MPEG_LAYER_III", bitrate_mode="VARIABLE")
    tag_frame = data[: data.index(data[:2], 4)]
    untagged = data[len(tag_frame) :]
    assert mp3_length(data).tagged and not mp3_length(untagged).tagged
    clip = decode_audio(untagged, "untagged")
    assert len(wave) <= len(clip.waveform) <= len(wave) + 4 * 576
    # The same sound; only the encoder's delay at the front, which the tag states, is not trimmed.
    whole = decode_audio(data, "tagged").waveform
    np.testing.assert_allclose(clip.waveform[576:][1000:175_000], whole[1000:175_000], atol=1e-6)


@pytest.mark.parametrize("kind", ["AU", "W64", "CAF"])
def test_containers_that_cannot_be_checked_are_refused(kind):
    assert "convert it" in refusal(encode(tone(16000), 16000, kind, "PCM_16"))


@pytest.mark.parametrize("rate", [10, 2_000_000])
def test_absurd_rates_are_refused(rate):
    assert f"{rate} Hz" in refusal(encode(tone(16000), rate, "WAV", "PCM_16"))
