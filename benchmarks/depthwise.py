"""Training step of EfficientNet-lite0 with this project's depthwise gradients (a) and torch's own (b), in bfloat16.
The project's are faster on CPUs with bfloat16, where torch's are slow.
"""

import copy
import sys
from collections.abc import Callable

import side_by_side
import timm
import torch
from torch import nn

from seg_pipeline.segmentation.models.depthwise import replace_slow_convolutions
from seg_pipeline.segmentation.training.devices import pick_precision

CPU = torch.device("cpu")


def step_of(encoder: nn.Module, images: torch.Tensor) -> Callable[[], None]:
    encoder = encoder.to(memory_format=torch.channels_last)

    def step() -> None:
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = torch.stack([out.float().mean() for out in encoder(images)]).sum()
        loss.backward()

    return step


def main() -> int:
    name = "depthwise_step"
    if pick_precision("auto", CPU) != torch.bfloat16:
        return side_by_side.report(side_by_side.Skipped(name, "this processor does not compute in bfloat16"))
    encoder = timm.create_model("tf_efficientnet_lite0", features_only=True)
    images = torch.rand(8, 3, 256, 256).contiguous(memory_format=torch.channels_last)
    ours, theirs = step_of(replace_slow_convolutions(copy.deepcopy(encoder)), images), step_of(encoder, images)
    note = "forward and backward of the encoder, 8 images of 256 x 256"
    return side_by_side.report(side_by_side.compare(name, ours, theirs, limit=0.75, runs=7, note=note))


if __name__ == "__main__":
    sys.exit(main())
