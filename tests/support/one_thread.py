"""A fixture for modules whose tests compute small things: import it, and it applies to all of them."""

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """What is small is not faster with more threads, and much slower where they have to wait for a busy core.

    And bit-identical sums need the same split of the work.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
