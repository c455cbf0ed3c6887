"""One of two processes that train together: ``python loss_of_rank.py RANK FOLDER``; see test_losses.

FOLDER has cases.pt: by name the arguments of make_loss, the images (4, 3, H, W) and the truth of the whole batch, and
the state of a 1 x 1 convolution as network. The process leaves loss and gradients by name in rank<RANK>.pt.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from seg_pipeline.segmentation.losses import make_loss


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    part = slice(2 * rank, 2 * rank + 2)
    results = {}
    for name, case in torch.load(folder / "cases.pt").items():
        network = torch.nn.Conv2d(3, len(case["network"]["bias"]), 1)
        network.load_state_dict(case["network"])
        together = DistributedDataParallel(network)  # exchanges gradients for as long as it lives
        loss = make_loss(**case["loss"])(together(case["images"][part]), case["truth"][part])
        loss.backward()
        results[name] = [loss.detach(), *(parameter.grad for parameter in network.parameters())]
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
