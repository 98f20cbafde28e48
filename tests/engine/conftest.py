"""Settings of the engine's tests."""

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """What is small is not faster with more, and much slower where they have to wait for a busy core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
