"""One of two processes that train one model on GPUs: ``python rank_on_gpu.py RANK FOLDER``.

Each has a card of its own, or both share the only one. The weights are left in rank<RANK>.pt.
"""

import sys
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
import torch.distributed as dist

from seg_pipeline.segmentation.training.processes import Processes, with_sync_batch_norm


def main(rank: int, folder: Path) -> None:
    two = torch.cuda.device_count() > 1
    device = torch.device("cuda", rank if two else 0)
    torch.cuda.set_device(device)
    dist.init_process_group("nccl" if two else "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = smp.Unet("resnet18", encoder_weights=None, classes=2).to(device)
    if two:  # gloo has no with_sync_batch_norm batch norm on a GPU
        model = with_sync_batch_norm(model, device)
    processes = Processes()
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(3)).to(device)
    together = processes.wrap(model, device, images[:1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    for _ in range(3):
        optimizer.zero_grad()
        together(images[2 * rank :][:2]).square().mean().backward()
        optimizer.step()
    torch.save({name: value.detach().cpu() for name, value in model.named_parameters()}, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
