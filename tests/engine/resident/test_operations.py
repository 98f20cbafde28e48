"""Which implementation a device has."""

import logging
import sys

import torch

from tilestream.engine.resident import operations, reference


def test_the_cpu_has_plain_torch():
    assert operations.operations_for(torch.device("cpu")) is reference


def test_without_triton_a_gpu_has_plain_torch_too_and_the_log_says_so(monkeypatch, caplog):
    monkeypatch.delattr("tilestream.engine.resident.kernels", raising=False)
    monkeypatch.setitem(sys.modules, "tilestream.engine.resident.kernels", None)
    with caplog.at_level(logging.WARNING):
        assert operations.operations_for(torch.device("cuda")) is reference
    assert "Triton is not installed" in caplog.text
