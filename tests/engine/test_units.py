"""Which additions close a residual block, and which are something else."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.toy_networks import Toy
from tilestream.engine.lowering.lower import lower
from tilestream.engine.lowering.program import LoweringError, Unit


class Net(Toy):
    """One ordinary block (so that there always is one), then ``run`` with convolutions a..e."""

    def __init__(self, run) -> None:
        super().__init__()
        self.first, self.stem = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.a, self.b, self.c, self.d, self.e = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(5))
        self.down, self.point = nn.Conv2d(4, 4, 2, stride=2), nn.Conv2d(4, 4, 1)
        self.norm, self.squeeze = nn.BatchNorm2d(4), nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(x + self.first(x))
        return torch.tanh(self.run(self, x)) * 2


def units_behind_the_first(run) -> list[Unit]:
    units = lower(Net(run).eval(), 16).units
    assert units[0].nodes == {"first", "add", "relu"}
    return list(units[1:])


def up(x: Tensor, factor: int = 2) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def excited(net, x):
    y = net.a(x)
    scale = torch.sigmoid(net.squeeze(F.adaptive_avg_pool2d(y, 1).flatten(1)))[:, :, None, None]
    return x + y * scale


IDENTITY = {
    "two convolutions": lambda net, x: x + net.b(F.relu(net.a(x))),
    "the branch first": lambda net, x: net.b(F.relu(net.a(x))) + x,
    "activation and norm in front": lambda net, x: x + net.a(F.relu(net.norm(x))),
    "a learned scale": lambda net, x: x + net.scale * net.a(x),
    "a branch that forks and joins": lambda net, x: x + torch.cat([net.a(x)[:, :2], net.b(x)[:, 2:]], 1),
    "a branch that is multiplied": lambda net, x: x + net.a(x) * torch.sigmoid(net.b(x)),
    "squeeze and excitation": excited,
    "one point-wise convolution": lambda net, x: x + net.point(x),
    "added in place": lambda net, x: net.a(x).add_(x),
}
PROJECTED = {
    "a convolution on both sides": lambda net, x: net.point(x) + net.b(F.relu(net.a(x))),
    "half the resolution": lambda net, x: up(net.down(x) + F.max_pool2d(net.a(x), 2)),
    "an average in front of the convolution": lambda net, x: up(
        net.point(F.avg_pool2d(x, 2)) + net.down(net.a(x))
    ),
    "only an average": lambda net, x: up(F.avg_pool2d(x, 2) + net.down(x)),
}


@pytest.mark.parametrize("what", IDENTITY)
def test_a_block_with_an_identity_skip(what):
    (unit,) = units_behind_the_first(IDENTITY[what])
    assert not unit.projected
    assert unit.name.startswith("tanh")  # the activation behind the sum belongs to the block


@pytest.mark.parametrize("what", PROJECTED)
def test_a_block_with_a_projected_skip(what):
    (unit,) = units_behind_the_first(PROJECTED[what])
    assert unit.projected


def unrelated(net, x):
    return net.a(up(net.down(x))) + net.b(x)


def two_convolutions_aside(net, x):
    return net.b(net.a(x)) + net.d(net.c(x))


def read_from_outside(net, x):
    y = net.a(x)
    return (x + net.b(y)) * y


def long_skip(net, x):
    return x + net.a(up(net.down(x)))


NO_BLOCKS = {
    "a constant": lambda net, x: x + 1,
    "the map itself": lambda net, x: x + x,
    "its activation": lambda net, x: x + F.relu(x),
    "branches that meet an upsampling": unrelated,
    "branches of two convolutions each": two_convolutions_aside,
    "a branch that is read from outside": read_from_outside,
    "a long skip around an upsampling": long_skip,
}


@pytest.mark.parametrize("what", NO_BLOCKS)
def test_additions_that_close_no_block(what):
    assert units_behind_the_first(NO_BLOCKS[what]) == []


def test_of_nested_blocks_the_inner_ones_are_units():
    def nested(net, x):
        y = net.a(x)
        y = F.relu(y + net.b(y))
        y = F.relu(y + net.c(y))
        return x + net.d(y)

    inner = units_behind_the_first(nested)
    assert [unit.nodes for unit in inner] == [{"b", "add_1", "relu_1"}, {"c", "add_2", "relu_2"}]


def test_a_decoder_ladder_has_no_units():
    def ladder(net, x):
        half = net.down(x)
        half = F.relu(half + net.a(half))
        return net.c(x + up(net.b(half)))

    (block,) = units_behind_the_first(ladder)
    assert block.nodes == {"a", "add_1", "relu_1"}


def test_an_activation_that_is_not_alone_stays_outside():
    def block(net, x):
        y = x + net.a(x)
        return F.relu(y) - y

    (unit,) = units_behind_the_first(block)
    assert unit.name == "add_1"


def test_a_network_may_be_as_deep_as_it_likes():
    def deep(net, x):
        for _ in range(300):
            x = F.relu(x + net.a(x))
        return x

    assert len(units_behind_the_first(deep)) == 300


def test_a_network_whose_only_additions_are_long_skips_is_refused():
    class UNet(Toy):
        def __init__(self):
            super().__init__()
            self.stem, self.down, self.low = (
                nn.Conv2d(3, 4, 3, 1, 1),
                nn.Conv2d(4, 4, 2, 2),
                nn.Conv2d(4, 4, 3, 1, 1),
            )

        def forward(self, x):
            x = self.stem(x)
            return x + up(self.low(self.down(x)))

    with pytest.raises(LoweringError, match="no residual block"):
        lower(UNet().eval(), 16)
