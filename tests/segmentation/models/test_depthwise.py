import copy

import pytest
import timm
import torch
from timm.layers import Conv2dSame
from torch import nn

from seg_pipeline.segmentation.models.depthwise import (
    FastDepthwiseConv2d,
    _DepthwiseConvolution,
    replace_slow_convolutions,
)


@pytest.mark.parametrize(("size", "stride", "padding"), [(5, 1, 2), (5, 1, 0), (3, 2, 1), (3, 2, 0), (5, 2, 2)])
@pytest.mark.parametrize("shape", [(9, 14), (16, 12), (7, 7)])
def test_gradients_are_those_of_torch(size, stride, padding, shape):
    torch.manual_seed(0)
    images, weight = torch.randn(2, 3, *shape, requires_grad=True), torch.randn(3, 1, size, size, requires_grad=True)
    ours = _DepthwiseConvolution.apply(images, weight, stride, padding)
    theirs = nn.functional.conv2d(images, weight, None, stride, padding, groups=3)
    torch.testing.assert_close(ours, theirs)
    grad = torch.randn_like(theirs)
    found, wanted = (torch.autograd.grad(out, (images, weight), grad) for out in (ours, theirs))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_only_what_gains_is_replaced_and_weights_keep_their_names():
    net = nn.Sequential(
        nn.Conv2d(4, 4, 5, padding=2, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
        nn.Sequential(Conv2dSame(4, 4, 3, stride=2, groups=4, bias=False)),
        nn.Conv2d(4, 4, 5, padding=2, bias=False),
    )
    plain = copy.deepcopy(net)
    quick = replace_slow_convolutions(net)
    assert [isinstance(one, FastDepthwiseConv2d) for one in (quick[0], quick[1], quick[2][0], quick[3])] == [
        True, False, True, False
    ]  # fmt: skip
    assert list(quick.state_dict()) == list(plain.state_dict())
    images = torch.randn(1, 4, 11, 13)
    torch.testing.assert_close(quick(images), plain(images))


def test_an_encoder_trains_to_the_same_gradients_in_bfloat16():
    torch.manual_seed(0)
    encoder = timm.create_model("tf_efficientnet_lite0", features_only=True)
    images = torch.rand(2, 3, 64, 96)
    gradients = []
    for net in (encoder, replace_slow_convolutions(copy.deepcopy(encoder))):
        with torch.autocast("cpu", torch.bfloat16):
            loss = sum(out.float().square().mean() for out in net(images))
        loss.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in net.parameters() if parameter.ndim == 4]))
    one, other = gradients
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.995  # both are rounded to 8 bits on the way
