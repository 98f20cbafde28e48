"""Many small arrays in one copy."""

import numpy as np
import torch

from tilestream.engine.resident import transfer
from tilestream.engine.resident.transfer import fetch_all, upload_all

ARRAYS = [
    np.arange(5, dtype=np.int64),
    np.array([], dtype=np.int64),
    np.ones((3, 0), dtype=np.float32),
    np.linspace(0, 1, 7, dtype=np.float32).reshape(7, 1),
    np.array([True, False, True]),
    np.arange(12, dtype=np.uint8).reshape(3, 4)[:, ::2],
]


def test_arrays_are_uploaded_as_they_are():
    for array, tensor in zip(ARRAYS, upload_all(ARRAYS, torch.device("cpu")), strict=True):
        assert tensor.shape == array.shape and np.array_equal(tensor.numpy(), array)
        assert tensor.numpy().dtype == array.dtype
    assert upload_all([], torch.device("cpu")) == []


def test_tensors_of_the_host_are_fetched_as_they_are():
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in ARRAYS]
    assert all(one is other for one, other in zip(fetch_all(tensors), tensors, strict=True))
    assert fetch_all([]) == []


def test_what_is_packed_is_unpacked_whatever_the_types():
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in ARRAYS]
    tensors.append(torch.arange(24).view(2, 3, 4).permute(2, 0, 1))  # not as it lies in memory
    flat = torch.zeros(sum(transfer._padded(tensor) for tensor in tensors), dtype=torch.uint8)
    transfer._pack(tensors, flat)
    for found, expected in zip(transfer._unpack(flat, tensors), tensors, strict=True):
        assert found.dtype == expected.dtype and torch.equal(found, expected)
        assert found.data_ptr() % found.element_size() == 0
