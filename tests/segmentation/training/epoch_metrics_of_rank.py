"""One of two processes that score together: ``python epoch_metrics_of_rank.py RANK FOLDER``; see test_overlap.

The masks are those of ``test_overlap.random_masks``; the first process has one image, the other three. The counts that
each of them gathers are left in rank<RANK>.pt.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from seg_pipeline.segmentation.metrics.overlap import Collected, concatenate, count
from seg_pipeline.segmentation.training.processes import Processes


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    generator = torch.Generator().manual_seed(0)
    predicted = torch.rand(4, 3, 9, 7, generator=generator) > 0.6
    masks = (torch.rand(4, 3, 9, 7, generator=generator) > 0.5).to(torch.uint8)
    counts = Collected()
    for image in [0] if rank == 0 else [1, 2, 3]:
        counts.add(count(predicted[[image]], masks[[image]]))
    torch.save(list(concatenate(Processes().all_gather(counts.all()))), folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
