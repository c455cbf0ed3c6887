"""Find the largest batch that fits into memory."""

import logging

import torch
from torch import Tensor

from seg_pipeline.segmentation.data.memory import format_bytes, free_ram
from seg_pipeline.segmentation.losses import Loss
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.devices import autocast, pick_precision
from seg_pipeline.segmentation.training.optimizers import make_optimizer

log = logging.getLogger(__name__)


def largest_batch(
    model: Segmenter,
    loss_fn: Loss,
    config: TrainingConfig,
    device: torch.device,
    *,
    limit_bytes: int | None = None,
    max_batch_size: int = 64,
) -> int:
    """Find the largest power of two, up to ``max_batch_size``, whose training step fits into memory; 1 if none does.

    The memory kept for the backward pass grows linearly with the batch, so two small batches determine it (2 and 3
    images, because batch norm needs more than one value per channel). On CUDA it then tries a step. It changes the
    model's weights and batch statistics.

    Args:
        config: settings whose input size, task and precision determine the memory of a step.
        limit_bytes: limit for that memory; None: half of the free memory, because gradients, the optimiser's state and
            each layer's working memory need space too.
    """
    limit = _free_memory(device) // 2 if limit_bytes is None else limit_bytes
    try:
        two, three = (saved_tensor_bytes(model, loss_fn, config, device, batch_size=size) for size in (2, 3))
    except torch.OutOfMemoryError:
        return _halve_until_it_fits(model, loss_fn, config, device, min(max_batch_size, 2))
    per_image = max(1, three - two)
    fitting = max(1, (limit - (two - 2 * per_image)) // per_image)
    batch_size = min(max_batch_size, 2 ** (fitting.bit_length() - 1))
    log.info(
        "a training step keeps %s per image; %s allow a batch of %d",
        format_bytes(per_image),
        format_bytes(limit),
        batch_size,
    )
    return _halve_until_it_fits(model, loss_fn, config, device, batch_size) if device.type == "cuda" else batch_size


def saved_tensor_bytes(
    model: Segmenter, loss_fn: Loss, config: TrainingConfig, device: torch.device, *, batch_size: int
) -> int:
    """Bytes that autograd keeps for the backward pass, including the weights."""
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage  # one entry for all views of the same memory
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _loss(model, loss_fn, config, device, batch_size)
    return sum(storage.nbytes() for storage in storages.values())


def _loss(model: Segmenter, loss_fn: Loss, config: TrainingConfig, device: torch.device, batch_size: int) -> Tensor:
    channels = (config.num_channels,) if config.task == "multilabel" else ()
    images = torch.zeros(batch_size, config.input.num_channels, *config.input.size, dtype=torch.uint8, device=device)
    truth = torch.zeros(batch_size, *channels, *config.input.size, dtype=torch.uint8, device=device)
    with autocast(device, pick_precision(config.fit.precision, device)):
        logits = model(images)
    return loss_fn(logits, model.subsample(truth))


def _halve_until_it_fits(
    model: Segmenter, loss_fn: Loss, config: TrainingConfig, device: torch.device, batch_size: int
) -> int:
    """Halve the batch size until a step with gradients and the optimiser's state fits."""
    while batch_size > 1:
        try:
            _loss(model, loss_fn, config, device, batch_size).backward()
            make_optimizer(model, config.optimizer).step()
            return batch_size
        except torch.OutOfMemoryError:
            batch_size //= 2
        finally:
            model.zero_grad()
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return 1


def _free_memory(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_ram()
