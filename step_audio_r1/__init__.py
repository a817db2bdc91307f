"""step_audio_r1: train, study and score audio-reasoning language models in JAX."""

__version__ = "0.1.0"
