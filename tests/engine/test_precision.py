"""The working precision: what the device lacks is refused, what is fastest found, and scores stay numbers."""

import pytest
import torch
from torch import nn

from tilestream.engine import precision
from tilestream.engine.precision import choose_precision, fp16_pays, has_fast_bf16
from tilestream.messages import EngineError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Network(nn.Module):
    """Passes take ``seconds`` of the clock, by precision; ``scale``: what it multiplies by."""

    def __init__(self, clock, half, other, scale=1.0):
        super().__init__()
        self.clock, self.passes = clock, {torch.float16: 0, torch.bfloat16: 0}
        self.seconds = {torch.float16: half, torch.bfloat16: other}
        self.scale = nn.Parameter(torch.tensor(scale), requires_grad=False)

    def __deepcopy__(self, memo):
        made = Network(self.clock, *self.seconds.values(), float(self.scale))
        made.passes = self.passes
        return made

    def forward(self, x):
        assert x.dtype == self.scale.dtype and x.shape[1] == 3
        self.passes[x.dtype] += 1
        slow = 50.0 if self.passes[x.dtype] <= 3 else 1.0  # the first passes choose algorithms
        self.clock.now += slow * self.seconds[x.dtype]
        return x * self.scale


def pays(*networks, clock):
    return fp16_pays(networks, CPU, torch.bfloat16, clock)


def test_the_faster_one_is_taken():
    clock = Clock()
    assert pays(Network(clock, 1.0, 1.1), clock=clock)
    assert not pays(Network(clock, 1.1, 1.0), clock=clock)
    assert not pays(Network(clock, 1.0, 1.0), clock=clock)


def test_one_slow_pass_says_nothing():
    clock = Clock()
    network = Network(clock, 1.0, 1.1)
    forward = network.forward

    def sometimes_slow(x):
        clock.now += 90.0 if x.dtype is torch.float16 and network.passes[x.dtype] == 6 else 0.0
        return forward(x)

    network.forward = sometimes_slow
    assert pays(network, clock=clock)


def test_all_networks_are_timed_together():
    clock = Clock()
    assert pays(Network(clock, 1.0, 3.0), Network(clock, 2.0, 1.0), clock=clock)
    assert not pays(Network(clock, 1.0, 2.0), Network(clock, 3.0, 1.0), clock=clock)


def test_none_may_overflow():
    clock = Clock()
    fast, overflowing = Network(clock, 1.0, 9.0), Network(clock, 1.0, 9.0, scale=60000.0)
    assert pays(fast, clock=clock)
    assert not pays(fast, overflowing, clock=clock)


def test_the_networks_stay_as_they_are():
    clock = Clock()
    network = Network(clock, 1.0, 1.1)
    pays(network, clock=clock)
    assert network.scale.dtype == torch.float32


@pytest.mark.parametrize(("bf16", "pays", "wanted"), [
    (True, True, "fp16"), (True, False, "bf16"), (False, True, "fp16"), (False, False, "fp32"),
])  # fmt: skip
def test_auto_on_cuda(monkeypatch, bf16, pays, wanted):
    compared = []
    monkeypatch.setattr(precision, "has_fast_bf16", lambda device: bf16)
    monkeypatch.setattr(precision, "fp16_pays", lambda *asked: compared.append(asked[2]) or pays)
    assert choose_precision("auto", CUDA, [nn.Identity()])[0] == wanted
    assert compared == [torch.bfloat16 if bf16 else torch.float32]
    assert choose_precision("bf16", CUDA, [nn.Identity()]) == ("bf16", torch.bfloat16)
    assert choose_precision("auto", CUDA)[0] == ("bf16" if bf16 else "fp32")
    assert len(compared) == 1, "nothing else is timed"


def test_auto_on_a_cpu_goes_by_its_instructions():
    name, dtype = choose_precision("auto", CPU, [nn.Identity()])
    assert (name, dtype) == (("bf16", torch.bfloat16) if has_fast_bf16(CPU) else ("fp32", torch.float32))


def test_precisions_that_the_device_lacks_are_refused():
    with pytest.raises(EngineError, match="fp16 needs a CUDA device"):
        choose_precision("fp16", CPU)
    with pytest.raises(EngineError, match="auto, fp32, bf16, fp16"):
        choose_precision("int8", CPU)
