"""What a learned gate looks at: the same as on the host, from the same inputs."""

import numpy as np
import pytest
import torch

from support.motions import motions, smooth
from support.textures import texture
from tilestream.engine.gates import cells as host
from tilestream.engine.gates.cells import CELL, SIGNALS
from tilestream.engine.resident.cells import LABEL_STEP, cell_features

CLASSES = 5


@pytest.mark.parametrize("size", [(64, 96), (70, 101), (16, 16)])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_cells_are_those_of_the_host(size, scale):
    rng = np.random.default_rng(0)
    shape, step = tuple(-(-side // scale) for side in size), 2 * scale
    coarse = rng.integers(0, CLASSES + 1, (3, -(-size[0] // 7), -(-size[1] // 7)), dtype=np.uint8)
    labels = torch.from_numpy(coarse.repeat(7, 1).repeat(7, 2)[:, : size[0], : size[1]].copy())
    seen, batch = motions(shape, scale, reach=2.0)
    fine = smooth(3, 5, *(-(-side // 2) for side in shape), 20.0, seed=3).abs()
    luma = torch.from_numpy(np.stack([texture(*shape, seed) for seed in range(3)]))
    expected = host.cell_features(
        list(labels), CLASSES, fine.permute(0, 2, 3, 1).contiguous(), step, seen, luma
    )
    few = labels[:, LABEL_STEP // 2 :: LABEL_STEP, LABEL_STEP // 2 :: LABEL_STEP]
    found = cell_features(few, CLASSES, fine, step, batch, scale, luma)
    assert found.shape == expected.shape == (3, len(SIGNALS) + CLASSES, *(-(-s // CELL) for s in size))
    for channel in range(found.shape[1]):
        assert torch.allclose(found[:, channel], expected[:, channel], atol=0.02), channel
