"""Device and precision: what is not there is refused in words."""

import numpy as np
import pytest
import torch

from tilestream.engine.device import choose_device, choose_precision, has_fast_bf16, upload
from tilestream.messages import EngineError

CPU = torch.device("cpu")


def test_auto_takes_what_is_there():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    name, dtype = choose_precision("auto", CPU)
    assert (name, dtype) == (("bf16", torch.bfloat16) if has_fast_bf16(CPU) else ("fp32", torch.float32))


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:99", ""])
def test_unknown_devices_are_refused(name):
    with pytest.raises(EngineError, match="cuda"):
        choose_device(name)


def test_precisions_that_the_device_lacks_are_refused():
    with pytest.raises(EngineError, match="fp16 needs a CUDA device"):
        choose_precision("fp16", CPU)
    with pytest.raises(EngineError, match="auto, fp32, bf16, fp16"):
        choose_precision("int8", CPU)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_arrays_and_tensors_of_the_host_need_no_copy_where_it_computes(kind):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = upload(kind(values), CPU)
    assert found.device == CPU and np.array_equal(found.numpy(), values)
    assert np.shares_memory(found.numpy(), values)
