"""The precision a training multiplies in."""

from __future__ import annotations

from typing import Any

import torch
from accelerate.state import AcceleratorState


def settled_precision(wanted: str) -> str:
    """What ``auto`` comes to on this machine: bf16 where it is multiplied in hardware, else fp16 on a GPU, fp32 on a CPU."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if cpu_has_bf16() else "no"


def multiplying(wanted: str, device: torch.device) -> torch.autocast:
    """What a training would multiply in, for work of its own before it begins."""
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(settled_precision(wanted))
    return torch.autocast(device.type, kind, enabled=kind is not None)


def free_to_be(precision: str) -> str:
    """Let Accelerate forget another training's precision, which it holds for the whole process and has no public way to change.

    The group of processes stays. An Accelerator that was made before takes on the new precision.
    """
    if AcceleratorState._shared_state.get("_mixed_precision") != precision:
        AcceleratorState._reset_state()
    return precision


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself; emulation would be slower than fp32."""
    told: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch before 2.13 cannot tell
    return bool(told.get("avx512_bf16") or told.get("amx_bf16"))
