"""Weight files: what is written is what is loaded, and what does not fit is refused in words."""

import pytest
import torch
from safetensors.torch import save_file

from support.networks import CLASSES, PALETTE, lively, write_weights
from tilestream.models import ModelError, build_model, list_models, load_model, save_model, weights_of
from tilestream.models.census import count_macs, count_residual_blocks, shadow_of
from tilestream.models.registry import WeightsInfo, read_weights_info, weights_path


def test_a_file_alone_is_enough_to_load_a_model(tmp_path):
    original = lively("ddrnet23_slim")
    model = load_model(str(write_weights(tmp_path / "mine.safetensors")))
    assert model.info.name == "mine"
    assert (model.info.classes, model.info.palette) == (CLASSES, PALETTE)
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = original(x)
        assert (model(x) - expected).abs().max() < 0.02 * expected.abs().max()  # stored as fp16


def test_unknown_names_list_what_there_is():
    with pytest.raises(ModelError, match=r"nosuch.*\.safetensors"):
        load_model("nosuch")
    with pytest.raises(ModelError, match="swiftnet_resnet18, swiftnet_mobilenetv2, ddrnet23_slim"):
        build_model("nosuch", 3)


@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
def test_files_that_are_no_weights_are_refused(tmp_path, content):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is not a safetensors file"):
        load_model(str(path))


def test_files_of_others_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="lacks the metadata"):
        load_model(str(path))


def test_tensors_that_do_not_fit_are_named(tmp_path):
    metadata = {"architecture": "ddrnet23_slim", "classes": '["a"]', "palette": "[[0, 0, 0]]"}
    path = tmp_path / "wrong.safetensors"
    save_file({"stranger": torch.zeros(1)}, path, metadata)
    with pytest.raises(ModelError, match="does not fit ddrnet23_slim"):
        load_model(str(path))


@pytest.mark.parametrize("name", list_models())
def test_shipped_models_load_and_have_a_card(name):
    from tilestream.models.registry import WEIGHTS_DIRECTORY

    model = load_model(name)
    assert model.info.name == name and len(model.info.classes) == len(model.info.palette) == 11
    assert model.info.reference_miou is not None and model.info.reference_miou > 0.3
    card = (WEIGHTS_DIRECTORY / f"{name}.md").read_text()
    assert "licence" in card.lower() and f"{model.info.reference_miou:.4f}" in card


def test_census_of_residual_blocks():
    assert count_residual_blocks(build_model("swiftnet_resnet18", 3)) == 8
    assert count_residual_blocks(build_model("swiftnet_mobilenetv2", 3)) == 10
    assert count_residual_blocks(build_model("ddrnet23_slim", 3)) == 14


def test_the_light_model_is_shipped():
    assert "swiftnet_mobilenetv2" in list_models()


@pytest.mark.parametrize("name", ["swiftnet_resnet18", "swiftnet_mobilenetv2"])
def test_a_decoder_of_another_width_is_written_and_read(tmp_path, name):
    narrow = build_model(name, len(CLASSES), width=32)
    assert narrow.head.in_channels == 32 < build_model(name, 2).head.in_channels
    path = tmp_path / "narrow.safetensors"
    save_model(narrow, path, WeightsInfo(name, CLASSES, PALETTE, width=32))
    assert read_weights_info(path).width == 32
    assert load_model(str(path)).head.in_channels == 32


@pytest.mark.parametrize(("name", "width"), [("ddrnet23_slim", 32), ("swiftnet_mobilenetv2", 0)])
def test_widths_that_cannot_be_are_refused(name, width):
    with pytest.raises(ModelError, match="swiftnet_resnet18, swiftnet_mobilenetv2"):
        build_model(name, 3, width)


def test_macs_are_those_of_a_convolution():
    conv = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
    assert count_macs(shadow_of(conv), 32, 64) == 8 * 16 * 32 * 3 * 9


def test_a_network_tells_which_weights_it_was_loaded_from(tmp_path):
    path = write_weights(tmp_path / "mine.safetensors")
    assert weights_of(load_model(str(path))) == str(path)
    name = list_models()[0]
    assert weights_of(load_model(name)) == str(weights_path(name))
    assert weights_of(build_model("ddrnet23_slim", 3)) is None
