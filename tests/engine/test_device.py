"""The device: what is not there is refused in words."""

import numpy as np
import pytest
import torch

from tilestream.engine.device import choose_device, upload
from tilestream.messages import EngineError

CPU = torch.device("cpu")


def test_auto_takes_what_is_there():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:99", ""])
def test_unknown_devices_are_refused(name):
    with pytest.raises(EngineError, match="cuda"):
        choose_device(name)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_arrays_and_tensors_of_the_host_need_no_copy_where_it_computes(kind):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = upload(kind(values), CPU)
    assert found.device == CPU and np.array_equal(found.numpy(), values)
    assert np.shares_memory(found.numpy(), values)
