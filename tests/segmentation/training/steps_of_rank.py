"""One of two processes that train every architecture together: ``python steps_of_rank.py RANK FOLDER``.

Each network takes two steps on random images, and what went wrong is left in rank<RANK>.json by architecture and
encoder; the first process also compares the network with its form for several GPUs. See test_processes.
"""

import copy
import json
import sys
import warnings
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm

from seg_pipeline.segmentation.models.encoder_weights import PACKAGED_ENCODER
from seg_pipeline.segmentation.models.networks import build_model
from seg_pipeline.segmentation.training.processes import Processes

CPU = torch.device("cpu")
ENCODERS = ("tu-test_resnet", "efficientnet-b0")
OTHER_ENCODERS = {
    "dpt": ("tu-test_vit",),  # takes transformers only
    "unet": (*ENCODERS, PACKAGED_ENCODER),  # the default
    "pspnet": (*ENCODERS, PACKAGED_ENCODER),  # leaves the deepest stages out
}
IMAGES = torch.rand(4, 3, 128, 160, generator=torch.Generator().manual_seed(3))


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    processes, found = Processes(), {}
    for architecture in smp.MODEL_ARCHITECTURES_MAPPING:
        for encoder in OTHER_ENCODERS.get(architecture, ENCODERS):
            found[f"{architecture} {encoder}"] = trouble(processes, architecture, encoder)
    (folder / f"rank{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def trouble(processes: Processes, architecture: str, encoder: str) -> str:
    torch.manual_seed(0)
    images = IMAGES if architecture == "pan" else IMAGES[..., :32, :32]
    network = build_model(architecture, encoder=encoder, encoder_weights=None, in_channels=3, num_classes=2)
    try:
        if processes.rank == 0 and not same_when_converted(network, images[:1]):
            return "the form for several GPUs computes something else"
        together = processes.wrap(network, CPU, images[:1])
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
        for _ in range(2):
            optimizer.zero_grad()
            together(images[2 * processes.rank :][:2]).square().mean().backward()
            optimizer.step()
    except RuntimeError as error:
        return str(error)
    total = sum(parameter.double().sum() for parameter in network.parameters()).detach()
    apart = [total.clone(), -total]
    for value in apart:
        dist.all_reduce(value, dist.ReduceOp.MAX)
    return "" if apart[0] == -apart[1] else "the processes have different weights"


@torch.inference_mode()
def same_when_converted(network: torch.nn.Module, image: torch.Tensor) -> bool:
    before = network.eval()(image)
    after = convert_sync_batchnorm(copy.deepcopy(network))(image)  # its layers are replaced in place
    network.train()
    return torch.equal(before, after)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
