"""Choose the device and the precision of a run."""

import os
from contextlib import AbstractContextManager

import torch

from seg_pipeline.segmentation.settings.training_config import TrainingConfig


def pick_device(name: str) -> torch.device:
    """Return the named device; "auto" is CUDA if available, else the CPU.

    Raises:
        ValueError: the device is unknown or not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device {name!r} is unknown; expected auto, cpu, cuda or cuda:0, ...") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of autocast; "auto" is bfloat16 if the device supports it, else float16 on CUDA."""
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    return torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def set_backends(config: TrainingConfig, device: torch.device) -> None:
    """Apply ``fit.tf32``, ``fit.repeatable`` and ``fit.time_convolutions`` to torch, for the whole process.

    They affect GPUs only. By default cuDNN times its algorithms once per image size, except with ``crop``, whose
    whole images have many sizes.
    """
    if device.type != "cuda":
        return
    fit = config.fit
    timed = config.input.resize_mode != "crop" if fit.time_convolutions == "auto" else fit.time_convolutions
    torch.backends.cudnn.benchmark = timed and not fit.repeatable
    torch.backends.cudnn.deterministic = fit.repeatable
    torch.backends.cudnn.allow_tf32 = fit.tf32
    torch.set_float32_matmul_precision("high" if fit.tf32 else "highest")
    if fit.repeatable:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS refuses to be deterministic
    torch.use_deterministic_algorithms(fit.repeatable)
