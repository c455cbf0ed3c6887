"""Loss and counts of an epoch, accumulated on the device and summed over all processes."""

import math

import torch
from torch import Tensor

from seg_pipeline.segmentation.data.sampler import EpochSampler
from seg_pipeline.segmentation.metrics.overlap import Collected, Counts, concatenate, mean_dice, pixel_accuracy
from seg_pipeline.segmentation.training.processes import Processes, TrainingFailed
from seg_pipeline.segmentation.training.state import TrainState


class EpochMetrics:
    """Loss and counts of an epoch, kept on the device.

    Args:
        partial: result of an earlier ``sum_over_processes`` to resume from.
    """

    def __init__(self, state: TrainState, processes: Processes, partial: dict | None = None) -> None:
        self.state, self.processes = state, processes
        self.overlap = Collected[Counts]()
        self.overlap.add(Counts.empty(len(state.config.classes), state.device))  # a process may get no batch
        self.sums = torch.zeros(2, dtype=torch.float64, device=state.device)  # loss times images, images
        self.first_non_finite = torch.full(
            (), -1, device=state.device
        )  # first step whose loss or gradient is not finite
        if partial and processes.rank == 0:
            self.sums += partial["sums"].to(state.device)
            self.overlap.add(Counts(**{name: part.to(state.device) for name, part in partial["counts"].items()}))

    def add(self, loss: Tensor, counts: Counts, num_images: int, *, is_finite: Tensor | None = None) -> None:
        self.sums[0].add_(loss.detach().double() * num_images)
        self.sums[1].add_(num_images)
        self.overlap.add(counts)
        if is_finite is not None:
            self.first_non_finite = torch.where(
                (self.first_non_finite < 0) & ~is_finite, self.state.step, self.first_non_finite
            )

    def sum_over_processes(self) -> dict:
        """Return loss and counts over all processes, as plain tensors."""
        counts = concatenate(self.processes.all_gather(Counts(*(part.cpu() for part in self.overlap.all()))))
        return {"sums": self.processes.all_reduce(self.sums).cpu(), "counts": counts._asdict()}

    def means(self) -> tuple[float, float]:
        """Loss and Dice of this process so far; waits for the device."""
        scores = self.state.config.scores
        dice = mean_dice(self.overlap.all(), aggregation=scores.aggregation, empty_policy=scores.empty_policy)
        return (self.sums[0] / self.sums[1]).item(), dice

    def check_finite(self, order: EpochSampler) -> None:
        """Raise TrainingFailed if a loss or gradient was not finite; that update was skipped."""
        if (step := int(self.first_non_finite.item())) < 0:
            self.state.check_loss_scale()
            return
        ids, epoch = order.ids(order.epoch, step), order.epoch + 1
        raise TrainingFailed(
            f"epoch {epoch}, step {step + 1}: the loss or its gradient is not finite, on the images "
            f"{', '.join(ids[:8])}{', ...' if len(ids) > 8 else ''}. The last save is from before that step. "
            "Lower `training.optimizer.learning_rate`, or train in `training.fit.precision: float32`"
        )

    def row(self, split: str) -> dict:
        collected = self.sum_over_processes()
        counts, scores = Counts(**collected["counts"]), self.state.config.scores
        total, num_images = collected["sums"].tolist()
        if not math.isfinite(total):
            raise TrainingFailed(
                f"the mean {split} loss over {num_images:.0f} images is {total / num_images}; lower "
                "`training.optimizer.learning_rate`, or train in `training.fit.precision: float32`"
            )
        dice = mean_dice(counts, aggregation=scores.aggregation, empty_policy=scores.empty_policy)
        return {
            f"{split}_loss": total / num_images,
            f"{split}_dice": dice,
            f"{split}_pixel_accuracy": pixel_accuracy(counts),
        }
