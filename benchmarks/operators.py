"""Operators that a training step of the default network launches: compiled (a) and one by one (b).

On a GPU each launch costs the processor several microseconds, which is why a small network trains no faster there than
its operators can be launched. Counted on the CPU by torch's profiler: operators that compute something, and kernels of
the compiler. A CUDA graph launches all of them at once.
"""

import logging
import sys
from types import SimpleNamespace

import torch
from side_by_side import Result, judge, report
from torch.profiler import ProfilerActivity, profile
from training import config_of

from seg_pipeline.segmentation.training import epoch
from seg_pipeline.segmentation.training.epoch_metrics import EpochMetrics
from seg_pipeline.segmentation.training.state import start
from seg_pipeline.segmentation.training.step import train_step

BATCH, SIZE = 4, 64
"""The number of operators does not depend on them."""
NO_WORK = {
    f"aten::{name}"
    for name in [
        "alias",
        "as_strided",
        "as_strided_",
        "detach",
        "empty",
        "empty_like",
        "empty_strided",
        "expand",
        "lift_fresh",
        "narrow",
        "new_empty",
        "permute",
        "reshape",
        "result_type",
        "resolve_conj",
        "resolve_neg",
        "select",
        "slice",
        "split",
        "squeeze",
        "t",
        "to",
        "transpose",
        "unbind",
        "unsqueeze",
        "view",
        "_reshape_alias",
        "_unsafe_view",
        "contiguous",
        "set_",
        "item",
        "is_nonzero",
        "resize_",
    ]
}
"""Operators that look at memory in another way, or only reserve it; what they call, such as a copy, counts."""


class Order:
    batch_size = BATCH

    def __len__(self) -> int:
        return 1


def launches(*, compiled: bool) -> int:
    config = config_of(SIZE, "tu-tf_efficientnet_lite0", BATCH).changed(
        {"fit.compile": compiled, "fit.precision": "bfloat16"}
    )
    state = start(config, "", torch.device("cpu"))
    run = epoch.prepare_run(state, SimpleNamespace(order=Order(), augmentation=None), float("inf"))
    state.model.train()
    tally = EpochMetrics(state, run.processes)
    batch = (
        torch.randint(256, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8),
        torch.randint(2, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8),
    )
    for _ in range(2):
        train_step(run, tally, batch, 0.5)
    if run.compiled.enabled is not compiled:
        raise RuntimeError("the network could not be compiled; is there a C++ compiler?")
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        train_step(run, tally, batch, 0.5)
    return sum(_computes(event) for event in profiled.events())


def _computes(event: torch.autograd.profiler_util.FunctionEvent) -> bool:
    """Whether an event is an operator that is not called by another, or a kernel of the compiler."""
    if event.name.startswith(("cpp_", "graph_")):
        return event.name.startswith("cpp_")
    if not event.name.startswith("aten::") or event.name in NO_WORK:
        return False
    parent = event.cpu_parent
    while parent is not None:
        if parent.name.startswith("aten::") and parent.name not in NO_WORK:
            return False
        parent = parent.cpu_parent
    return True


def measure() -> Result:
    torch._inductor.config.cpp.enable_kernel_profile = True
    alone, fused = launches(compiled=False), launches(compiled=True)
    return judge(
        "step_operators_compiled",
        [float(fused)],
        [float(alone)],
        limit=0.5,
        unit="operators",
        note="U-Net with EfficientNet-lite0: forward, loss, counts, backward, clipping and AdamW",
    )


if __name__ == "__main__":
    logging.disable(logging.INFO)
    sys.exit(report(measure()))
