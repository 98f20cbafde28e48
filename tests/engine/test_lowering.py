"""What lowering finds in a network, and what it says where tiles cannot do what a network does."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import fx, nn

from support.frames import photo
from support.reuse_engines import (
    EVERY_NETWORK,
    SHIPPED,
    Recorder,
    bin_size,
    expected_maps,
    kept_maps,
    lost_by_labels,
    make_engine,
    module_logits,
    network,
    step,
    worst_difference,
)
from support.toy_networks import CLASSES, TOYS, Basic, Toy, enliven
from tilestream.engine.lowering.classify import classify
from tilestream.engine.lowering.lower import lower
from tilestream.engine.lowering.program import Axis, LoweringError, WholeMap
from tilestream.models.census import count_macs, shadow_of

UNITS = {name: toy.units for name, toy in TOYS.items()} | {
    "swiftnet_resnet18": (False, False, True, False, True, False, True, False),
    "swiftnet_mobilenetv2": (False,) * 10,
    "ddrnet23_slim": (
        False, False, True, False, True, False, False, False, True, False, False, False, True, True,
    ),
}  # fmt: skip
STRIDES = {name: toy.strides for name, toy in TOYS.items()} | {
    "swiftnet_resnet18": (4, 8, 16, 32),
    "swiftnet_mobilenetv2": (2, 4, 8, 16, 32),
    "ddrnet23_slim": (4, 8, 16, 32, 64),
}

module = cache(network)


@cache
def program(name):
    return lower(module(name), bin_size(name))


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_residual_blocks_are_units(name):
    units = program(name).units
    assert tuple(unit.projected for unit in units) == UNITS[name]
    assert len({unit.name for unit in units}) == len(units)
    inside = [node for unit in units for node in unit.nodes]
    assert len(inside) == len(set(inside))


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_strides(name):
    found = program(name)
    assert found.strides == STRIDES[name]
    assert found.stride == module(name).stride
    size = bin_size(name)
    assert [found.tile(stride) for stride in found.strides] == [size // stride for stride in found.strides]
    assert found.bins(size, size + 1) == (1, 2)
    assert found.padded(1, found.stride + 1) == (found.stride, 2 * found.stride)
    recorder = Recorder(found)
    with torch.no_grad():
        recorder.run(torch.zeros(1, 3, size, 2 * size))
    for node in found.nodes.values():
        shape = (1, node.channels, size // node.stride, 2 * size // node.stride)
        assert recorder.values[node.name].shape == shape


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_the_traced_graph_is_the_module(name):
    torch.manual_seed(3)
    size = bin_size(name)
    x = torch.randn(2, 3, 2 * size, size)
    with torch.no_grad():
        expected, found = module(name)(x), program(name).graph(x)
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_stages_make_every_kept_map_from_maps_that_were_made_before(name):
    found = program(name)
    made = {next(node.name for node in found.graph.graph.nodes if node.op == "placeholder")}
    for stage in found.stages:
        assert set(stage.reads) <= made
        assert stage.nodes[-1] == stage.output
        made.add(stage.output)
    assert found.stages[-1].output == found.output
    assert [node.name for node in found.kept] == [stage.output for stage in found.stages[:-1]]
    for index, unit in enumerate(found.units):
        stages = [stage for stage in found.stages if stage.unit == index]
        assert stages[-1].output == unit.name
        assert all(stage.output in unit.nodes for stage in stages)


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_macs_are_those_of_every_convolution_once(name):
    """But for convolutions of pooled maps, whose cost does not depend on how much is computed."""
    found, size = program(name), bin_size(name)
    context = {
        node.name
        for n in found.nodes.values()
        if isinstance(n.operation, WholeMap)
        for node in n.operation.nodes
    }
    recorder = Recorder(found)
    with torch.no_grad():
        recorder.run(torch.zeros(1, 3, 2 * size, 3 * size))
    expected, of_context = 0, 0
    for node in found.graph.graph.nodes:
        layer = found.graph.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(layer, nn.Conv2d):
            macs = layer.weight[0].numel() * recorder.values[node.name].numel()
        elif isinstance(layer, nn.ConvTranspose2d):
            macs = layer.weight[0].numel() * recorder.values[node.args[0].name].numel()
        else:
            continue
        if node.name in context:
            of_context += macs
        else:
            expected += macs
    assert 6 * sum(stage.macs for stage in found.stages) == expected
    if name in SHIPPED:
        assert expected + of_context == count_macs(shadow_of(module(name)), 2 * size, 3 * size)
        assert of_context < 0.02 * expected


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_bytes_per_session_are_those_of_the_kept_maps(name):
    found, size = program(name), bin_size(name)
    recorder = Recorder(found)
    with torch.no_grad():
        recorder.run(torch.zeros(1, 3, 2 * size, 3 * size))
    numbers = sum(recorder.values[node.name].numel() for node in found.kept)
    assert found.bytes_per_session(2 * size, 3 * size, 2) == 2 * numbers
    # in whole bins
    assert found.bytes_per_session(size + 1, 2 * size + 1, 2) == 2 * numbers


def test_a_stem_is_computed_with_its_rim_and_not_kept():
    kept = {node.name for node in program("swiftnet_resnet18").kept}
    assert "encoder_maxpool" in kept
    assert not any(
        node.name in kept for node in program("swiftnet_resnet18").nodes.values() if node.stride <= 2
    )


def test_lowering_leaves_the_module_alone():
    shared = network("shared")
    before = {key: value.clone() for key, value in shared.state_dict().items()}
    lower(shared, 16)
    assert shared.relu.inplace
    assert shared.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in shared.state_dict().items())


@given(
    kernel=st.integers(1, 6), stride=st.integers(1, 4), dilation=st.integers(1, 3),
    lo=st.integers(0, 5), hi=st.integers(0, 5), outputs=st.integers(3, 9),
)  # fmt: skip
def test_an_axis_says_whether_it_shrinks_by_a_whole_factor(kernel, stride, dilation, lo, hi, outputs):
    axis = Axis(kernel, stride, dilation, lo, hi)
    size = outputs * stride
    assume(size + lo + hi > axis.reach)
    x = F.pad(torch.zeros(1, 1, size), (lo, hi))
    found = F.conv1d(x, torch.zeros(1, 1, kernel), stride=stride, dilation=dilation).shape[2]
    assert (found == outputs) == axis.keeps_whole_factor()


@given(
    kernel=st.integers(1, 5), stride=st.integers(1, 4), padding=st.integers(0, 2), dilation=st.integers(1, 2),
    ceil_mode=st.booleans(),
)  # fmt: skip
def test_pooling_is_taken_exactly_if_it_shrinks_by_a_whole_factor(
    kernel, stride, padding, dilation, ceil_mode
):
    assume(2 * padding <= kernel)
    pool = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    graph = fx.symbolic_trace(nn.Sequential(pool))
    side = 12 * stride
    shape = pool(torch.zeros(1, 1, side, side)).shape
    for node in graph.graph.nodes:
        node.meta["shape"] = (2, 3, side, side) if node.op == "placeholder" else (2, 3, *shape[2:])
    if shape[2] == 12:
        assert classify(graph).nodes["_0"].stride == stride
    else:
        with pytest.raises(LoweringError, match="node _0"):
            classify(graph)


# -- what tiles cannot do --


class Around(Toy):
    """An ordinary small network with something in its middle, at half the resolution."""

    stride = 2

    def __init__(self, middle, build=nn.Identity) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.block = Basic(8, nn.ReLU())
        self.extra = build()
        self.middle = middle
        self.head = nn.Conv2d(8, CLASSES, 1)

    def forward(self, x):
        x = self.block(self.stem(x))
        x = self.middle(self, x)
        return F.interpolate(self.head(x), scale_factor=2, mode="bilinear", align_corners=False)


def attention(net, x):
    n, c, h, w = x.shape
    y = x.flatten(2)
    return (y @ torch.softmax(y.transpose(1, 2) @ y, dim=2)).view(n, c, h, w)


def wide_pool(net, x):
    return x + F.avg_pool2d(x, 7, 1, 3)


def doubled_size(net, x):
    # a size that is made from a shape, but is not that shape
    y = F.interpolate(x, size=(x.shape[2] * 2, x.shape[3] * 2), mode="bilinear")
    return F.max_pool2d(y, 2)


def sides_mistaken(net, x):
    return F.interpolate(x, size=(x.shape[3], x.shape[2]))


def overwritten_part(net, x):
    part = x[:, :4]
    part.relu_()
    return x + 1


def spatial_attention(net, x):
    return x * torch.sigmoid(x.mean(1, keepdim=True))


def resized(**options):
    """A piece of a network that interpolates."""
    return lambda net, x: F.interpolate(x, **options)


IN_THE_MIDDLE = {
    "group norm": (lambda net, x: net.extra(x), lambda: nn.GroupNorm(2, 8), "extra (GroupNorm)"),
    "instance norm": (lambda net, x: net.extra(x), lambda: nn.InstanceNorm2d(8), "extra (InstanceNorm2d)"),
    "layer norm": (lambda net, x: F.layer_norm(x, [8, 4, 4]), nn.Identity, "layer_norm"),
    "batch norm of this batch": (
        lambda net, x: net.extra(x),
        lambda: nn.BatchNorm2d(8, track_running_stats=False),
        "extra (BatchNorm2d)",
    ),
    "attention": (attention, nn.Identity, "flatten"),
    "attention over the image's own maximum": (spatial_attention, nn.Identity, "mul"),
    "padding": (lambda net, x: F.pad(x, (1, 1, 1, 1))[:, :, 1:-1, 1:-1], nn.Identity, "pad"),
    "flip": (lambda net, x: torch.flip(x, [3]), nn.Identity, "flip"),
    "roll": (lambda net, x: x.roll(1, 2), nn.Identity, "roll"),
    "transposition": (lambda net, x: x.transpose(2, 3), nn.Identity, "transpose"),
    "a crop": (lambda net, x: x[:, :, 1:], nn.Identity, "getitem"),
    "a step in space": (lambda net, x: x[:, :, ::2, ::2], nn.Identity, "getitem"),
    "one channel": (lambda net, x: x[:, 0].unsqueeze(1) + x, nn.Identity, "getitem"),
    "wide pooling that meets a map": (wide_pool, nn.Identity, "add"),
    "interpolation by a fraction": (resized(scale_factor=1.5), nn.Identity, "interpolate"),
    "shrinking interpolation": (resized(scale_factor=0.5), nn.Identity, "interpolate"),
    "bicubic interpolation": (
        lambda net, x: F.interpolate(x, scale_factor=2, mode="bicubic"), nn.Identity, "interpolate",
    ),
    "interpolation to a fixed size": (resized(size=(64, 64)), nn.Identity, "interpolate"),
    "interpolation beyond the frame": (resized(scale_factor=4), nn.Identity, "interpolate"),
    "a size that is not the map's": (doubled_size, nn.Identity, "interpolate"),
    "sides that are mistaken": (sides_mistaken, nn.Identity, "interpolate"),
    "a valid convolution": (lambda net, x: net.extra(x), lambda: nn.Conv2d(8, 8, 3), "extra"),
    "a stride in one direction": (
        lambda net, x: net.extra(x), lambda: nn.Conv2d(8, 8, 3, stride=(1, 2), padding=1), "extra",
    ),
    "pooling that adds a row": (
        lambda net, x: net.extra(x), lambda: nn.MaxPool2d(3, 1, 1, ceil_mode=True, dilation=2), "extra",
    ),
    "pooling that returns where": (
        lambda net, x: F.max_pool2d(x, 2, 2, return_indices=True)[0], nn.Identity, "max_pool2d",
    ),
    "a divisor of its own": (
        lambda net, x: F.avg_pool2d(x, 3, 1, 1, divisor_override=5), nn.Identity, "avg_pool2d",
    ),
    "an average that rounds up": (
        lambda net, x: net.extra(x), lambda: nn.AvgPool2d(3, 2, 0, ceil_mode=True), "extra (AvgPool2d)",
    ),
    "a transposed convolution of another size": (
        lambda net, x: net.extra(x), lambda: nn.ConvTranspose2d(8, 8, 3, stride=2), "extra (ConvTranspose2d)",
    ),
    "maps of different resolution": (lambda net, x: x + F.max_pool2d(x, 2), nn.Identity, "add"),
    "a learned map": (
        lambda net, x: x + F.interpolate(net.extra.weight, size=x.shape[2:]),
        lambda: nn.Conv2d(8, 1, 3),
        "interpolate",
    ),
    "numbers from a shape": (lambda net, x: x * x.shape[2], nn.Identity, "mul"),
    "joining along the height": (lambda net, x: torch.cat([x, x], 2), nn.Identity, "cat"),
    "softmax over positions": (lambda net, x: F.softmax(x, dim=3), nn.Identity, "softmax"),
    "overwriting a part of a map": (overwritten_part, nn.Identity, "overwrites a part"),
    "a mean over the batch": (
        lambda net, x: x * x.mean((0, 2, 3), keepdim=True), nn.Identity, "mul",
    ),
    "channels that are shuffled": (
        lambda net, x: x.view(x.shape[0], 2, 4, x.shape[2], x.shape[3]).transpose(1, 2).reshape(x.shape),
        nn.Identity, "view",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", IN_THE_MIDDLE)
def test_what_tiles_cannot_do_is_refused_by_name(what):
    middle, build, named = IN_THE_MIDDLE[what]
    with pytest.raises(LoweringError) as refused:
        lower(Around(middle, build).eval(), 16)
    assert named in str(refused.value)
    assert "node " in str(refused.value)


class Custom(Toy):
    stride = 2

    def __init__(self, run, **layers) -> None:
        super().__init__()
        self.block = Basic(3, nn.ReLU())
        self.layers = nn.ModuleDict(layers)
        self.run = run

    def forward(self, x):
        return self.run(self, x)


def branching(net, x):
    return net.block(x) if x.mean() > 0 else x


def writing(net, x):
    x = net.block(x)
    x[:, 0] = 1.0
    return x


OTHERWISE = {
    "data-dependent control flow": (Custom(branching), "cannot be traced"),
    "writing into a map": (Custom(writing), "cannot be traced"),
    "half the resolution": (
        Custom(lambda net, x: F.max_pool2d(net.block(x), 2)),
        "1/2 of the frame's resolution",
    ),
    "an output that is no map": (Custom(lambda net, x: net.block(x).mean((2, 3))), "not on the frame's grid"),
    "two outputs": (Custom(lambda net, x: (net.block(x), x)), "one tensor"),
    "no residual block": (Custom(lambda net, x: F.relu(net.block.conv1(x))), "no residual block"),
    "other channels than the layer takes": (Custom(lambda net, x: net.block(x[:, :2])), "fails on a frame"),
    "reflection of the frame": (
        Custom(
            lambda net, x: net.block(net.layers["conv"](x)),
            conv=nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"),
        ),
        "reflect padding of the frame",
    ),
    "context of the frame": (
        Custom(lambda net, x: net.block(x * x.mean((2, 3), keepdim=True))), "global context of the frame",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERWISE)
def test_networks_of_the_wrong_kind_are_refused(what):
    refused, why = OTHERWISE[what]
    with pytest.raises(LoweringError, match=why):
        lower(refused.eval(), 16)


def test_a_network_of_two_inputs_is_refused():
    class Two(Toy):
        def __init__(self):
            super().__init__()
            self.block = Basic(3, nn.ReLU())

        def forward(self, x, y):
            return self.block(x + y)

    with pytest.raises(LoweringError, match="one input"):
        lower(Two().eval(), 16)


@pytest.mark.parametrize("size", [0, -16, 4, 24, 100])
def test_bins_that_are_no_power_of_two_are_refused(size):
    with pytest.raises(LoweringError, match="power of two"):
        lower(module("split"), size)


def test_bins_that_a_stride_does_not_divide_are_refused():
    with pytest.raises(LoweringError, match=r"node .*: its stride 64 does not divide bins of 32 pixels"):
        lower(module("ddrnet23_slim"), 32)
    net = Around(
        lambda net, x: net.extra(x), lambda: nn.Sequential(nn.MaxPool2d(3), nn.Upsample(scale_factor=3))
    )
    net.stride = 6
    with pytest.raises(LoweringError, match=r"node .*: its stride 6 does not divide"):
        lower(net.eval(), 16)


def test_bins_that_the_networks_own_stride_does_not_divide_are_refused():
    net = Around(lambda net, x: x)
    net.stride = 32
    assert lower(net.eval(), 32).stride == 32
    with pytest.raises(LoweringError, match="multiples of its stride 32"):
        lower(net, 16)


# -- what they can, though it looks like it --


def assert_runs(net, height=37, width=50):
    """All bins kept is the module."""
    engine = make_engine(enliven(net))
    image = photo(width, height, 2)
    step(engine, "a", photo(width, height, 1))
    answer = step(engine, "a", image, keep=True)
    assert not answer.stats.key_frame
    assert worst_difference(kept_maps(engine, "a"), expected_maps(engine.program, net, image)) < 1e-5
    assert lost_by_labels(answer.labels, module_logits(net, engine.program.stride, image)) < 1e-5
    return engine.program


def shapes_of_pooled_maps(net, x):
    pooled = F.adaptive_avg_pool2d(x, 3)
    vector = pooled.reshape(pooled.shape[0], -1).mean(1, keepdim=True)
    return x * vector.view(-1, 1, 1, 1)


def by_hand(net, x):
    y = net.extra(x)
    return y * torch.sigmoid(y) + x.mul(0.5) - 1


CAN = {
    "shapes of pooled maps": (shapes_of_pooled_maps, nn.Identity),
    "an activation written by hand": (by_hand, lambda: nn.Conv2d(8, 8, 3, padding=1)),
    "the same map twice": (lambda net, x: net.extra(torch.cat([x, x], dim=1)), lambda: nn.Conv2d(16, 8, 1)),
    "its own sum and difference": (lambda net, x: (x + x) * (x - F.relu(x)), nn.Identity),
    "dropout and identity": (
        lambda net, x: net.extra(F.dropout(x, 0.5, net.training)),
        lambda: nn.Sequential(nn.Dropout2d(), nn.Identity()),
    ),
    "dropout in place": (lambda net, x: net.extra(x) + x, lambda: nn.Dropout(0.5, inplace=True)),
    "a crooked batch norm": (lambda net, x: net.extra(x), lambda: nn.BatchNorm2d(8, affine=False)),
    "a convolution without padding in one direction": (
        lambda net, x: net.extra(x), lambda: nn.Conv2d(8, 8, (1, 3), padding=(0, 1)),
    ),
    "an overlapping pool of its own kind": (
        lambda net, x: F.interpolate(
            F.max_pool2d(x, 2), size=x.shape[-2:], mode="bilinear", align_corners=True
        ),
        nn.Identity,
    ),
    "aligned corners by module": (
        lambda net, x: net.extra(F.avg_pool2d(x, 2)), lambda: nn.UpsamplingBilinear2d(scale_factor=2),
    ),
    "context that is added": (
        lambda net, x: x + F.relu(net.extra(x).amax((2, 3), keepdim=True)),
        lambda: nn.Conv2d(8, 8, 1),
    ),
    "a wide pool that is interpolated": (
        lambda net, x: x + F.interpolate(net.extra(x), size=x.shape[2:], mode="bilinear"),
        lambda: nn.AvgPool2d(5, stride=4, padding=2),
    ),
    "channels in steps": (lambda net, x: net.extra(x[:, ::2]), lambda: nn.Conv2d(4, 8, 3, padding=1)),
    "overwriting": (lambda net, x: torch.relu_(x.sub_(0.1)).mul_(2.0).clamp_(0, 3), nn.Identity),
}  # fmt: skip


@pytest.mark.parametrize("what", CAN)
def test_what_only_looks_difficult(what):
    assert_runs(Around(*CAN[what]))


def test_normalising_the_frame_in_the_network_keeps_nothing_at_full_resolution():
    class Normalising(Toy):
        stride = 2

        def __init__(self):
            super().__init__()
            self.register_buffer("mean_", torch.tensor([0.1, -0.2, 0.3]).view(1, 3, 1, 1))
            self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.block = Basic(8, nn.ReLU())
            self.head = nn.Conv2d(8, CLASSES, 1)

        def forward(self, x):
            x = self.block(self.stem((x - self.mean_) / 0.3))
            return F.interpolate(self.head(x), scale_factor=2, mode="bilinear", align_corners=False)

    assert assert_runs(Normalising()).strides == (2,)


def test_pooling_the_frame_itself():
    class Pooling(Toy):
        stride = 2

        def __init__(self, pool):
            super().__init__()
            self.pool, self.block = pool, Basic(3, nn.ReLU())

        def forward(self, x):
            return F.interpolate(self.block(self.pool(x)), scale_factor=2)

    assert_runs(Pooling(nn.MaxPool2d(3, 2, 1)))
    assert_runs(Pooling(nn.AvgPool2d(3, 2, 1, count_include_pad=False)))
