"""Promise: the stored values that the default tests compare with are those of this PyTorch and this transformers."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.golden.compare import LOG_MEL, LOGITS, difference

pytest.importorskip("tests.golden.reference")
pytestmark = pytest.mark.parity


def test_golden_values_are_up_to_date():
    from tests.golden import make

    stored, fresh = load_file(make.FILE), make.outputs()
    assert stored.keys() == fresh.keys()
    for name, x in fresh.items():
        if x.dtype == np.int32 or name.startswith("frequencies"):
            np.testing.assert_array_equal(stored[name], x, err_msg=name)
        else:
            assert difference(stored[name], x) <= (LOG_MEL if name == "log-mel" else LOGITS), name
