"""Public checkpoints load under their own names and compute what they compute in public code."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from support.public_networks import (
    RESNETS,
    State,
    ddrnet_shapes,
    mobilenet_shapes,
    parameter_count,
    random_state,
    reference_ddrnet,
    reference_mobilenet,
    reference_resnet,
    resnet_shapes,
)
from tilestream.models.ddrnet import ddrnet23_slim
from tilestream.models.importers import (
    CheckpointError,
    ImportReport,
    ShapeMismatch,
    import_ddrnet,
    import_torchvision_mobilenetv2,
    import_torchvision_resnet,
)
from tilestream.models.mobilenet import MobileNetV2Encoder
from tilestream.models.resnet import resnet18, resnet34, resnet50

BUILDERS = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}


@pytest.mark.parametrize("name", RESNETS)
def test_resnet_table_is_torchvisions(name: str) -> None:
    shapes = resnet_shapes(name)
    assert len(shapes) == RESNETS[name][2]
    assert parameter_count(shapes) == RESNETS[name][3]


@pytest.mark.parametrize("name", RESNETS)
def test_resnet_loads_completely(name: str) -> None:
    shapes = resnet_shapes(name)
    state = random_state(shapes)
    encoder = BUILDERS[name]()
    report = import_torchvision_resnet(encoder, state)
    assert report.complete
    assert set(report.matched) == set(shapes) - {"fc.weight", "fc.bias"}
    assert report.unexpected == () and report.ignored == ("fc.weight", "fc.bias")
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@torch.no_grad()
def test_resnet_computes_what_torchvision_computes(name: str) -> None:
    state = random_state(resnet_shapes(name), seed=1)
    encoder = BUILDERS[name]().eval()
    import_torchvision_resnet(encoder, state)
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    for ours, theirs in zip(encoder(x), reference_resnet(name, state, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_mobilenet_table_is_torchvisions() -> None:
    shapes = mobilenet_shapes()
    assert len(shapes) == 314
    assert parameter_count(shapes) == 3_504_872


@pytest.mark.parametrize("layout", ["today", "numbered through"])
@torch.no_grad()
def test_mobilenet_loads_completely_and_computes_what_torchvision_computes(layout: str) -> None:
    state = random_state(mobilenet_shapes(), seed=1)
    encoder = MobileNetV2Encoder().eval()
    report = import_torchvision_mobilenetv2(encoder, numbered_through(state) if layout != "today" else state)
    assert report.complete and report.unexpected == () and len(report.ignored) == 8
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    for ours, theirs in zip(encoder(x), reference_mobilenet(state, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def numbered_through(state: State) -> State:
    """As torchvision named a block's layers before 0.4: conv, norm, ReLU6, conv, norm, ReLU6, conv, norm."""
    result, entries = {}, {}
    for name in state:
        if ".conv." in name:
            block, _, rest = name.partition(".conv.")
            entries.setdefault(block, []).append(rest)
    for name, value in state.items():
        block, _, rest = name.partition(".conv.")
        if rest:
            layer, _, parameter = rest.rpartition(".")
            layers = list(dict.fromkeys(entry.rpartition(".")[0] for entry in entries[block]))
            at = layers.index(layer)  # conv, norm, conv, norm, ...
            name = f"{block}.conv.{at // 2 * 3 + at % 2}.{parameter}"
        result[name] = value
    return result


def test_ddrnet_table_has_the_public_size() -> None:
    shapes = ddrnet_shapes()
    assert len(shapes) == 346
    assert parameter_count(shapes) == 5_734_342


def test_ddrnet_loads_completely() -> None:
    shapes = ddrnet_shapes()
    model = ddrnet23_slim(19)
    report = import_ddrnet(model, random_state(shapes))
    assert report.complete and set(report.matched) == set(shapes)
    assert report.unexpected == () and report.ignored == ()
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == shapes


@torch.no_grad()
def test_ddrnet_computes_what_the_public_code_computes() -> None:
    state = random_state(ddrnet_shapes(), seed=3)
    model = ddrnet23_slim(19).eval()
    import_ddrnet(model, state)
    x = torch.randn(1, 3, 128, 192, generator=torch.Generator().manual_seed(4))
    final, auxiliary = reference_ddrnet(state, x)
    ours, ours_auxiliary = model.forward_with_auxiliary(x)
    torch.testing.assert_close(ours, final, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ours_auxiliary, auxiliary, rtol=1e-3, atol=1e-3)
    full = F.interpolate(final, size=(128, 192), mode="bilinear", align_corners=False)
    torch.testing.assert_close(model(x), full, rtol=1e-3, atol=1e-3)


def _wrapped(prefix: str, key: str | None) -> Callable[[State], dict[str, object]]:
    def wrap(state: State) -> dict[str, object]:
        named: dict[str, object] = {f"{prefix}{name}": value for name, value in state.items()}
        return {"epoch": 3, "optimizer": {"state": {}}, key: named} if key else named

    return wrap


@pytest.mark.parametrize(
    "wrap",
    [
        _wrapped("", None), _wrapped("model.", None), _wrapped("module.", "state_dict"),
        _wrapped("module.model.", "model_state_dict"), _wrapped("", "model"),
    ],
    ids=["plain", "model.", "module. in state_dict", "module.model. in model_state_dict", "in model"],
)  # fmt: skip
def test_wrappers_and_prefixes(wrap, tmp_path) -> None:
    state = random_state(ddrnet_shapes())
    path = tmp_path / "checkpoint.pth"
    torch.save(wrap(state), path)
    report = import_ddrnet(ddrnet23_slim(19), path)
    assert report.complete and report.unexpected == ()


def test_safetensors(tmp_path) -> None:
    state = random_state(resnet_shapes("resnet18"))
    save_file(state, tmp_path / "r18.safetensors")
    encoder = resnet18()
    assert import_torchvision_resnet(encoder, tmp_path / "r18.safetensors").complete
    assert torch.equal(encoder.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])


def test_half_precision_checkpoint_keeps_the_model_in_single_precision() -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in random_state(ddrnet_shapes()).items()}
    model = ddrnet23_slim(19)
    assert import_ddrnet(model, state).complete
    assert model.conv1[0].weight.dtype == torch.float32


def test_other_head_is_left_as_it_is() -> None:
    model = ddrnet23_slim(11)
    before = model.final_layer.conv2.weight.clone()
    report = import_ddrnet(model, random_state(ddrnet_shapes()))
    heads = {f"{h}.conv2.{p}" for h in ("final_layer", "seghead_extra") for p in ("weight", "bias")}
    assert {mismatch.name for mismatch in report.mismatched_shapes} == heads
    assert report.missing == () and not report.complete
    assert torch.equal(model.final_layer.conv2.weight, before)
    text = str(report)
    assert "final_layer.conv2.weight (checkpoint 19x64x1x1, model 11x64x1x1)" in text
    assert "342 of the model's 346 tensors" in text and "another network" not in text


def test_checkpoint_without_auxiliary_head_and_counters() -> None:
    state = random_state(ddrnet_shapes())
    state = {k: v for k, v in state.items() if not k.startswith("seghead_extra") and "num_batches" not in k}
    report = import_ddrnet(ddrnet23_slim(19), state)
    assert report.missing and all(name.startswith("seghead_extra.") for name in report.missing)
    assert not any("num_batches_tracked" in name for name in report.missing)


def test_imagenet_classifier_of_ddrnet_is_ignored() -> None:
    backbone = ("conv1", "layer", "compression", "down")
    state = {k: v for k, v in random_state(ddrnet_shapes()).items() if k.startswith(backbone)}
    extra = {"down5.0.weight": torch.zeros(256, 128, 3, 3), "linear.bias": torch.zeros(1000)}
    loss = {"loss.criterion.weight": torch.zeros(19)}
    report = import_ddrnet(ddrnet23_slim(19), {**state, **extra, **loss, "mystery.weight": torch.zeros(2)})
    assert set(report.ignored) == {*extra, *loss}
    assert report.unexpected == ("mystery.weight",)
    assert "down5.*" in str(report) and "mystery.weight" in str(report)


def test_another_depth_is_reported() -> None:
    report = import_torchvision_resnet(resnet50(), random_state(resnet_shapes("resnet18")))
    assert not report.complete
    assert "looks like a checkpoint of another network" in str(report)
    report = import_torchvision_resnet(resnet18(), random_state(resnet_shapes("resnet34")))
    assert report.complete and "layer1.2.conv1.weight" in report.unexpected


def test_nothing_fits_changes_nothing() -> None:
    encoder = resnet18()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"it has backbone\.stem.*the model expects conv1\.weight"):
        import_torchvision_resnet(encoder, {"backbone.stem": torch.zeros(3)})
    with pytest.raises(CheckpointError, match="nothing in the checkpoint fits"):
        import_torchvision_resnet(encoder, {"bn1.num_batches_tracked": torch.tensor(1)})
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


class Trap:
    """Unpickling this would call a function."""

    def __reduce__(self):
        return (pytest.fail, ("code from a checkpoint was run",))


def test_code_in_a_checkpoint_is_refused(tmp_path) -> None:
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}, "args": Trap()}, tmp_path / "bad.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Trap(), protocol=2))
    for name in ("bad.pth", "plain.pth"):
        with pytest.raises(CheckpointError, match="refused"):
            import_torchvision_resnet(resnet18(), tmp_path / name)


@pytest.mark.parametrize(
    "name", ["cut.pth", "cut.safetensors", "noise.pth", "empty.pth", "empty.safetensors"]
)
def test_damaged_files(name, tmp_path) -> None:
    path = tmp_path / name
    state = {"conv1.weight": torch.zeros(64, 3, 7, 7)}
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:200], "noise": b"not a checkpoint" * 9, "empty": b""}[path.stem])
    with pytest.raises(CheckpointError, match=path.name):
        import_torchvision_resnet(resnet18(), path)


def test_files_without_tensors(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="is not there"):
        import_torchvision_resnet(resnet18(), tmp_path / "none.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list, not a state dict"):
        import_torchvision_resnet(resnet18(), tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match=r"no tensors.*epoch"):
        import_torchvision_resnet(resnet18(), {"epoch": 3})


def test_report_is_short_for_people() -> None:
    many = tuple(f"layer{i}.weight" for i in range(20))
    shapes = (ShapeMismatch("head.bias", (19,), (11,)),)
    text = str(ImportReport(matched=many, missing=many, mismatched_shapes=shapes))
    assert text.startswith("20 of the model's 41 tensors loaded")
    assert "and 12 more" in text and "head.bias (checkpoint 19, model 11)" in text
    assert len(text.splitlines()) < 20
