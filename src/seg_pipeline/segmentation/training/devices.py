"""Choose the device and the precision of a run."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


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
