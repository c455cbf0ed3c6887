import pytest

from seg_pipeline.segmentation.models.input_check import min_batch_size


@pytest.fixture
def config(config):
    return config.changed({"model.encoder": "tu-tf_efficientnet_lite0", "model.decoder_channels": None})


@pytest.mark.parametrize(
    ("architecture", "size", "fewest"),
    [
        ("unet", (64, 32), 1),  # the deepest map has 2 x 1 values
        ("unet", (32, 32), 2),
        ("deeplabv3plus", (64, 96), 2),  # one value per image, pooled from all of it
        ("pan", (128, 160), 2),
    ],
)
def test_batch_norm_needs_two_values_per_channel(config, architecture, size, fewest):
    changed = config.changed({"model.architecture": architecture, "input.size": size})
    assert min_batch_size(changed) == fewest


def test_a_frozen_encoder_needs_no_second_image(config):
    """The decoder's deepest map has 2 x 2 values where the encoder's has one."""
    assert min_batch_size(config.changed({"input.size": (32, 32), "optimizer.freeze_encoder": True})) == 1


def test_a_size_that_an_architecture_cannot_take_is_named_with_one_that_it_can(config):
    small = config.changed({"model.architecture": "pan", "input.size": (64, 96)})
    with pytest.raises(ValueError, match="takes no images of") as caught:
        min_batch_size(small)
    assert str(caught.value) == (
        "`training.input.size`: pan with tu-tf_efficientnet_lite0 takes no images of 64 x 96 (Given input size: "
        "(1x1x1). Calculated output size: (1x0x0). Output size is too small); 128 x 192 would do"
    )
