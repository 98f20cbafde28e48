"""Training of the gate: examples are what they should be, and something is learned from them."""

import numpy as np
import pytest
import torch

from support.frames import photo
from support.reuse_engines import network
from tilestream.engine.gates.cells import SIGNALS
from tilestream_street import write_clip
from tilestream_training.gate_data import collect
from tilestream_training.gate_examples import ExampleSources, gather
from tilestream_training.gate_training import captured, fit

CLASSES = 3


def test_a_still_scene_is_never_wrong():
    examples = list(collect(network("split"), [photo(80, 64, 0)] * 6, 0, precision="fp32"))
    assert examples and all(example.wrong.max() == 0 for example in examples)


def test_examples_tell_where_moved_labels_differ():
    first, second = photo(80, 64, 0), photo(80, 64, 0)
    second[:16, :16] = 255 - second[:16, :16]
    examples = list(collect(network("split"), [first, first, second], 0, precision="fp32"))
    assert len(examples) == 2
    assert examples[0].wrong.max() == 0 and examples[1].wrong.shape == (4, 5)
    assert examples[1].cells[SIGNALS.index("distortion")][0, 0] > 0


def test_examples_are_collected_once_for_the_same_weights(tmp_path):
    write_clip(tmp_path / "clip.mp4", seed=1, frames=4, width=160, height=96, fps=15.0)
    sources, work = ExampleSources(tmp_path, streets=0), tmp_path / "work"

    def files(module) -> dict[str, int]:
        gather(module, "mine", sources, work, 0, device="cpu", precision="fp32")
        return {path.name: path.stat().st_mtime_ns for path in work.iterdir()}

    module = network("split")
    first = files(module)
    assert len(first) == 1 and files(module) == first
    with torch.no_grad():
        next(module.parameters()).mul_(1.01)
    second = files(module)
    assert len(second) == 2 and first.items() <= second.items()


def videos() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Wrong is what the first channel says."""
    random = np.random.default_rng(0)
    cells = random.random((40, len(SIGNALS) + CLASSES, 8, 8), dtype=np.float32)
    return [(torch.from_numpy(cells), torch.from_numpy((cells[:, 0] > 0.8).astype(np.float32)))]


def test_the_network_learns_what_can_be_known_and_training_repeats():
    nets = [fit(videos(), CLASSES, 200, seed=1, progress=False) for _ in range(2)]
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(one, other)
    cells, wrong = videos()[0]
    with torch.inference_mode():
        assert captured(nets[0](cells), wrong, 0.25, 1) > 0.95
    assert captured(torch.rand_like(wrong), wrong, 0.25, 1) == pytest.approx(0.25, abs=0.05)
