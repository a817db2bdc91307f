"""Promise: greedy decoding writes what transformers' generate writes, with and without sound in the prompt."""

import numpy as np
import pytest

from tests.golden import cases, ours
from tests.golden.compare import LOGITS

reference = pytest.importorskip("tests.golden.reference")
pytestmark = pytest.mark.parity


def _assert_same_tokens(found: np.ndarray, theirs) -> None:
    assert theirs.tokens.shape == (len(found), cases.NEW_TOKENS)
    assert theirs.lead.min() > 10 * LOGITS  # no token is chosen by a last bit
    np.testing.assert_array_equal(found, theirs.tokens)


@pytest.mark.parametrize("name", cases.MODELS)
def test_prompts_of_different_lengths(name):
    config, prompts = cases.MODELS[name], cases.prompts()
    _assert_same_tokens(ours.greedy(config, prompts), reference.greedy(config, prompts))


@pytest.mark.parametrize("name", cases.WHOLE)
def test_a_prompt_with_two_recordings(name):
    config, talk = cases.MODELS[name], cases.conversation()
    _assert_same_tokens(ours.greedy_answer(config, talk), reference.greedy_answer(config, talk))
