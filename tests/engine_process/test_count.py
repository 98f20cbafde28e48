"""How many engine processes there are where nobody says so."""

import pytest
import torch

from tilestream.engine_process import count_engines
from tilestream.engine_process.count import cuda_devices
from tilestream.engine_process.handle import ask_a_process


@pytest.mark.parametrize(
    ("wanted", "device", "gpus", "count"),
    [
        ("auto", "auto", 0, 0),
        ("auto", "auto", 1, 1),
        ("auto", "auto", 8, 8),
        ("auto", "cuda", 2, 2),
        ("auto", "cuda:1", 8, 1),
        ("auto", "cuda", 0, 0),
        ("auto", "cpu", 8, 0),
        (0, "auto", 8, 0),
        (3, "cpu", 0, 3),
        (2, "cuda:0", 8, 2),
    ],
)
def test_one_per_gpu_unless_the_settings_say_otherwise(wanted, device, gpus, count):
    assert count_engines(wanted, device, lambda: gpus) == count


def test_gpus_are_not_counted_in_vain():
    def fail():
        raise AssertionError("there is no need to know")

    assert [count_engines(4, "auto", fail), count_engines("auto", "cpu", fail)] == [4, 0]


def test_gpus_are_those_that_torch_finds():
    assert cuda_devices() == (torch.cuda.device_count() if torch.cuda.is_available() else 0)


def question():
    return 6 * 7


def wrong_question():
    raise RuntimeError("nobody knows")


def test_another_process_is_asked_and_its_error_is_told():
    assert ask_a_process(question) == 42
    with pytest.raises(RuntimeError, match="nobody knows"):
        ask_a_process(wrong_question)
