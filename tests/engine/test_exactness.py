"""What is computed on tiles is what the module computes on whole frames."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from support.frames import photo
from support.reuse_engines import (
    CPU,
    EVERY_NETWORK,
    SHIPPED,
    Ask,
    bin_size,
    check_pages,
    expected_maps,
    kept_maps,
    lost_by_labels,
    make_engine,
    module_logits,
    network,
    run,
    step,
    worst_difference,
)
from support.toy_networks import TOYS
from tilestream.engine.precision import has_fast_bf16
from tilestream.engine.tiles import tables

FP32 = 1e-5  # relative; 1.3e-6 is the worst that was seen
CONTEXT = {"dilated", "excited", "ladder"}  # toys that pool over the whole frame
LOCAL = [name for name in TOYS if name not in CONTEXT]

module = cache(network)
engine = cache(make_engine)


def assert_exact(name, session, image, answer, tolerance=FP32):
    tiled = engine(name)
    assert not answer.stats.key_frame
    assert answer.labels.shape == image.shape[:2]
    assert (
        worst_difference(kept_maps(tiled, session), expected_maps(tiled.program, module(name), image))
        < tolerance
    )
    logits = module_logits(module(name), tiled.program.stride, image)
    assert lost_by_labels(answer.labels, logits) < tolerance
    if answer.confidence is not None:
        best = torch.softmax(logits, 0).topk(2, dim=0).values
        margin = ((best[0] - best[1]) * 255.0).numpy()
        assert np.abs(answer.confidence - margin).max() < 0.6


@pytest.mark.parametrize("name", EVERY_NETWORK)
@settings(max_examples=4)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 90),
    by_unit=st.booleans(),
    sure=st.booleans(),
    seed=st.integers(0, 99),
)
def test_all_bins_kept_is_the_module(name, height, width, by_unit, sure, seed):
    stride = engine(name).program.stride
    assume(name != "borders" or min(height, width) > 2 * stride)  # reflects by two, which takes three
    tiled, scale = engine(name), bin_size(name) // 16
    width, height = width * scale, height * scale
    previous, image = photo(width, height, seed), photo(width, height, seed + 100)
    tiled.release("camera")
    step(tiled, "camera", previous, confidence=sure)
    bins = tiled.program.bins(*image.shape[:2])
    keep = np.ones((len(tiled.program.units), *bins), dtype=np.bool_) if by_unit else True
    answer = step(tiled, "camera", image, keep=keep, confidence=sure)
    assert_exact(name, "camera", image, answer)
    assert (
        answer.stats.units_computed
        == answer.stats.units_total
        == len(tiled.program.units) * bins[0] * bins[1]
    )


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_key_frames_are_the_module(name):
    tiled, scale = engine(name), bin_size(name) // 16
    image = photo(37 * scale, 29 * scale, 5)
    answer = step(tiled, "key", image, whole=True)
    assert answer.stats.key_frame
    found, expected = kept_maps(tiled, "key"), expected_maps(tiled.program, module(name), image)
    assert worst_difference(found, expected) < FP32
    assert lost_by_labels(answer.labels, module_logits(module(name), tiled.program.stride, image)) < FP32
    tiled.release("key")


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_sessions_of_different_sizes_share_a_step(name):
    tiled, scale = engine(name), bin_size(name) // 16
    sizes = {"a": (33, 20), "b": (16, 47), "c": (33, 20), "d": (25, 18)}
    frames = {s: photo(w * scale, h * scale, ord(s)) for s, (h, w) in sizes.items()}
    run(tiled, [Ask(s, photo(w * scale, h * scale, 1)) for s, (h, w) in sizes.items()])
    answers = run(tiled, [Ask(s, image, keep=True) for s, image in frames.items()])
    for (session, image), answer in zip(frames.items(), answers, strict=True):
        assert_exact(name, session, image, answer)
    check_pages(tiled)
    for session in sizes:
        tiled.release(session)


@pytest.mark.parametrize("name", LOCAL)
def test_bins_whose_surroundings_are_kept_are_exact(name):
    """A wide frame whose left part is kept: what does not depend on the right part is the module's."""
    tiled = engine(name)
    previous, image = photo(320, 30, 1), photo(320, 30, 2)
    keep = np.zeros(tiled.program.bins(30, 320), dtype=np.bool_)
    keep[:, :15] = True
    step(tiled, "wide", previous)
    answer = step(tiled, "wide", image, keep=keep)
    found, expected = kept_maps(tiled, "wide"), expected_maps(tiled.program, module(name), image)
    other = image.copy()
    other[:, 15 * 16 :] = photo(320, 30, 3)[:, 15 * 16 :]
    elsewhere = expected_maps(tiled.program, module(name), other)
    for key, values in expected.items():
        same = (values == elsewhere[key]).all(axis=(0, 1))
        # circular padding carries the right part around to the left end
        certain = np.flatnonzero(same)
        assert len(certain) > len(same) // 4
        assert np.abs(found[key] - values)[..., certain].max() < FP32 * np.abs(values).max()
    logits, others = (module_logits(module(name), tiled.program.stride, frame) for frame in (image, other))
    certain = (logits == others).all(dim=0).all(dim=0).nonzero().ravel()
    assert lost_by_labels(answer.labels[:, certain.numpy()], logits[..., certain]) < FP32
    tiled.release("wide")


@pytest.mark.parametrize("name", ["pooled", "excited"])
def test_how_many_tiles_are_computed_together_does_not_matter(name, monkeypatch):
    """Kernels run on rounded-up numbers of tiles; what fills them up is never seen."""
    tiled = engine(name)
    previous, image = photo(128, 80, 1), photo(128, 80, 2)
    bins = tiled.program.bins(80, 128)
    order = np.random.default_rng(0).permutation(bins[0] * bins[1])
    for count in (1, 2, 3, 7, 9, 17, 23, 33, 40):
        keep = (order < count).reshape(bins)
        results = []
        for rounding in (tables.bucket, lambda n: n):
            with monkeypatch.context() as patch:
                patch.setattr(tables, "bucket", rounding)
                step(tiled, "camera", previous, whole=True)
                answer = step(tiled, "camera", image, keep=keep)
                results.append((kept_maps(tiled, "camera"), answer))
        (rounded, with_rounding), (plain, without) = results
        assert worst_difference(rounded, plain) < FP32
        assert (with_rounding.labels != without.labels).mean() < 1e-3
        assert with_rounding.stats.macs == without.stats.macs
    tiled.release("camera")


@pytest.mark.skipif(not has_fast_bf16(CPU), reason="this CPU has no bf16 instructions")
@pytest.mark.parametrize("name", SHIPPED)
def test_bf16_is_close_to_fp32(name):
    half = make_engine(name, dtype=torch.bfloat16)
    previous, image = photo(150, 100, 1), photo(150, 100, 2)
    step(half, "camera", previous)
    answer = step(half, "camera", image, keep=True)
    logits = module_logits(module(name), half.program.stride, image)
    key = step(half, "other", image)
    # the way of rounding differs between tiles and whole frames, as it does between two batch sizes
    assert worst_difference(kept_maps(half, "camera"), kept_maps(half, "other")) < 0.05
    assert (
        worst_difference(kept_maps(half, "camera"), expected_maps(half.program, module(name), image)) < 0.05
    )
    assert lost_by_labels(answer.labels, logits) < 0.05
    assert lost_by_labels(key.labels, logits) < 0.05
