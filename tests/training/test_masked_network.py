"""The differentiable twin of the reuse engine: the same maps and labels, for any network."""

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from support.frames import photo
from support.reuse_engines import (
    Shift,
    bin_size,
    kept_maps,
    lost_by_labels,
    make_engine,
    module_logits,
    network,
    seen,
    step,
    worst_difference,
)
from support.toy_networks import TOYS
from tilestream.engine.motion.luma import thumbnail_scale
from tilestream.engine.tiles.masks import stage_masks
from tilestream_training.masked_network import ClipMoves, MaskedNetwork, PlayedFrames

SIZE = (96, 80)  # width, height


module_of = cache(network)


@cache
def twin(name: str) -> MaskedNetwork:
    return MaskedNetwork(network(name), bin_size(name))


def full_size(masked: MaskedNetwork, played: PlayedFrames) -> torch.Tensor:
    """Logits [classes, H, W] of one frame."""
    scores = played.scores
    if masked.score_stride > 1:
        scores = F.interpolate(scores, scale_factor=masked.score_stride, mode="bilinear", align_corners=False)
    return scores[0]


def everything(masked: MaskedNetwork, kept: bool) -> list[np.ndarray]:
    shape = (len(masked.program.units), *masked.program.bins(SIZE[1], SIZE[0]))
    return [np.full(shape, kept)]


def moves(masked: MaskedNetwork) -> ClipMoves:
    return ClipMoves(masked.program, *masked.program.padded(SIZE[1], SIZE[0]))


@pytest.mark.parametrize("name", [*TOYS, "swiftnet_resnet18"])
@torch.no_grad()
def test_with_everything_kept_it_is_the_module(name):
    masked, module = twin(name), module_of(name)
    frames = [photo(*SIZE, seed) for seed in (1, 2)]
    stride = masked.program.stride
    before = masked.dense(seen(module, stride, frames[0]))
    after = masked.partial(seen(module, stride, frames[1]), before.maps, everything(masked, True))
    expected = module_logits(module, stride, frames[1])
    found = full_size(masked, after)[:, : SIZE[1], : SIZE[0]]
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", list(TOYS))
@torch.no_grad()
def test_with_nothing_kept_and_nothing_moved_it_is_the_frame_before(name):
    masked, module = twin(name), module_of(name)
    stride = masked.program.stride
    before = masked.dense(seen(module, stride, photo(*SIZE, 1)))
    other = seen(module, stride, photo(*SIZE, 2))
    after = masked.partial(other, before.maps, everything(masked, False))
    assert torch.equal(after.scores, before.scores)
    assert all(torch.equal(after.maps[name], before.maps[name]) for name in before.maps)


@pytest.mark.parametrize("by_unit", [False, True])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (-3.3, 1.6)])
@pytest.mark.parametrize("name", [*TOYS, "swiftnet_resnet18"])
@torch.no_grad()
def test_it_is_what_the_engine_computes(name, shift, by_unit):
    """Three partial frames on top of each other, so that rounded motion adds up as it does there."""
    masked, module = twin(name), module_of(name)
    engine = make_engine(name, motion=Shift(*shift))
    program, random = masked.program, np.random.default_rng(5)
    step(engine, "camera", photo(*SIZE, 1))
    played = masked.dense(seen(module, program.stride, photo(*SIZE, 1)))
    followed = moves(masked)
    for seed in (2, 3, 4):
        image = photo(*SIZE, seed)
        keep = random.random((len(program.units), *program.bins(SIZE[1], SIZE[0]))) < 0.5
        if not by_unit:
            keep[:] = keep[:1]
        keep[:, 0, 0] = True  # a frame without anything defers its motion
        answer = step(engine, "camera", image, keep=keep)
        luma, scale = engine.session("camera").luma[None], thumbnail_scale(SIZE[1], SIZE[0])
        motion = Shift(*shift).estimate(luma, luma, torch.zeros((*luma.shape, 2)), scale)
        sources = [followed.follow(motion)]
        moved = played.moved(masked.strides, sources)
        played = masked.partial(seen(module, program.stride, image), moved, [keep])
        followed.computed(keep)
        expected = {node.name: played.maps[node.name][0].numpy() for node in program.kept}
        assert worst_difference(kept_maps(engine, "camera"), expected) < 1e-4
        fresh = stage_masks(program, keep)[-1]  # the last stage makes the labels
        chosen = np.kron(fresh, np.ones((program.bin_size,) * 2, dtype=bool))
        chosen = chosen[: SIZE[1], : SIZE[0]]
        logits = full_size(masked, played)[:, : SIZE[1], : SIZE[0]]
        assert lost_by_labels(answer.labels[chosen], logits[:, chosen]) < 1e-4


def test_it_learns_the_modules_own_parameters_through_what_is_moved():
    module = network("ladder").requires_grad_(True)
    masked = MaskedNetwork(module, 16)
    x = seen(module, masked.program.stride, photo(*SIZE, 1))
    before = masked.dense(x)
    after = masked.partial(x, before.maps, everything(masked, False))
    after.scores.square().mean().backward()
    gradients = [p.grad for p in module.parameters()]
    assert any(g is not None and bool(g.abs().sum() > 0) for g in gradients)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.1)
        changed = masked.dense(x)
        expected = module(x)[0]
    assert not torch.allclose(changed.scores, before.scores)
    assert torch.allclose(full_size(masked, changed), expected, atol=1e-4 * float(expected.abs().max()))
