"""The public models' front end, forward and decoding against transformers, on this machine's CPU, in float32.

After `pip install -e .[parity]`: `python -m benchmarks.public_models`. Both have the same weights and all cores and
take turns. Peers: Whisper's feature extractor (its NumPy path), Qwen2ForCausalLM (sdpa attention), its `generate`.
"""

import argparse
import os
import tempfile
from pathlib import Path

# The peer must not look for its files on the network.
os.environ["HF_HUB_OFFLINE"] = "1"

import jax
import numpy as np
import torch
import transformers

from benchmarks.timing import compare
from step_audio_r1.audio import CHUNK_SAMPLES, SAMPLE_RATE
from step_audio_r1.interop import import_params
from step_audio_r1.model import AudioLM, DecoderConfig, EncoderConfig, ModelConfig, log_mel_batch
from step_audio_r1.parallel import MeshConfig, make_mesh
from step_audio_r1.rollout import LocalEngine, Prompt, SamplingConfig

# 0.31 B parameters in Qwen2.5's shape.
ROWS, D, LAYERS, HEADS, KV, FFN = 32_000, 1024, 20, 16, 4, 3072
PROMPT, NEW = 64, 128
CLIPS = 32


def main() -> None:
    """Runs the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=("log_mel", "forward", "decode"), help="default: all")
    parser.add_argument("--batch", action="append", type=int, help="decode: batch sizes (default 1, 16, 64)")
    args = parser.parse_args()
    parts = args.part or ["log_mel", "forward", "decode"]
    if "log_mel" in parts:
        log_mel()
    if {"forward", "decode"} & set(parts):
        peer, model, params = both_models()
        if "forward" in parts:
            forward(peer, model, params)
        for batch in (args.batch or (1, 16, 64)) if "decode" in parts else ():
            decode(peer, model, params, batch)


def log_mel() -> None:
    """32 chunks of 25 s to log-mel frames."""
    random = np.random.default_rng(0)
    clips = (0.1 * random.standard_normal((CLIPS, CHUNK_SAMPLES))).astype(np.float32)
    lengths = np.full(CLIPS, CHUNK_SAMPLES, np.int32)
    jitted = jax.jit(log_mel_batch)
    extractor = transformers.WhisperFeatureExtractor(feature_size=128)

    def ours() -> None:
        jax.block_until_ready(jitted(clips, lengths))

    def theirs() -> None:
        extractor._np_extract_fbank_features(clips, "cpu")

    seconds = CLIPS * CHUNK_SAMPLES / SAMPLE_RATE
    compare("log_mel", ours, theirs, "WhisperFeatureExtractor (numpy)", seconds, "s of sound/s")


def both_models():
    """The same random weights in both implementations."""
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=ROWS,
        hidden_size=D,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV,
        intermediate_size=FFN,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    peer = transformers.Qwen2ForCausalLM(config).eval()
    decoder = DecoderConfig(ROWS, D, LAYERS, HEADS, KV, D // HEADS, FFN, rope_theta=peer_theta(config))
    encoder = EncoderConfig(mel_bins=8, d_model=8, layers=1, heads=1, ffn=8, max_positions=8)
    sizes = ModelConfig("bench", encoder, decoder, 8, compute_dtype="float32", remat="none")
    with tempfile.TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        params = import_params(Path(folder) / "model.safetensors", sizes, ("decoder",))
    count = sum(p.numel() for p in peer.parameters())
    print(f"{count / 1e9:.3f} B parameters, float32, {torch.get_num_threads()} threads")
    return peer, AudioLM(sizes), params


def peer_theta(config: transformers.Qwen2Config) -> float:
    """The base of its rotary positions, wherever this version keeps it."""
    return float((getattr(config, "rope_parameters", None) or vars(config))["rope_theta"])


def forward(peer, model: AudioLM, params) -> None:
    """Logits of 4 rows of 512 tokens."""
    tokens = np.random.default_rng(1).integers(0, ROWS, (4, 512))
    positions, segments = np.broadcast_to(np.arange(512), tokens.shape), np.ones_like(tokens)
    features = np.zeros((4, 0, 1, 1), np.float32)

    def logits(m, *arguments):
        return m.hidden(*arguments) @ m.decoder.head_kernel()

    run = jax.jit(lambda p, *a: model.apply({"params": p}, *a, method=logits))
    arguments = (tokens, np.full_like(tokens, -1), features, positions, segments)

    def ours() -> None:
        jax.block_until_ready(run(params, *arguments))

    @torch.inference_mode()
    def theirs() -> None:
        peer(torch.from_numpy(tokens), use_cache=False)

    compare("forward 4 x 512", ours, theirs, "transformers Qwen2 (torch)", tokens.size, "tokens/s", runs=3)


def decode(peer, model: AudioLM, params, batch: int) -> None:
    """128 greedy tokens after prompts of 64, prefill included."""
    tokens = np.random.default_rng(2).integers(0, ROWS, (batch, PROMPT))
    features = np.zeros((0, 1, 1), np.float16)
    slots = np.full(PROMPT, -1, np.int32)
    prompts = [Prompt(str(i), row.astype(np.int32), slots, features) for i, row in enumerate(tokens)]
    # No id stops, so that both sides decode every token.
    engine = LocalEngine(model, make_mesh(MeshConfig()), stop_ids=(ROWS,), max_rows=batch)
    sampling = SamplingConfig(max_new_tokens=NEW, temperature=0.0)
    weights = engine.decode_params(params)

    def ours() -> None:
        engine.generate(weights, prompts, 1, sampling, 0)

    @torch.inference_mode()
    def theirs() -> None:
        ids = torch.from_numpy(tokens)
        peer.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)

    compare(f"decode, batch {batch}", ours, theirs, "transformers generate (torch)", batch * NEW, "tokens/s", runs=3)


if __name__ == "__main__":
    main()
