"""Matrix products in float32 at the speed of this CPU's vector units.

torch computes float32 products with MKL, which keeps to AVX2 on CPUs that are not Intel's: 110 GFLOP/s on a core of an
EPYC 9005 where oneDNN's AVX-512 kernels reach 210. torch calls oneDNN for float32 only where it is allowed to round to
bfloat16, and oneDNN rounds only where that is faster: on CPUs with matrix units (AMX). So rounding is allowed, and the
products are compared with exact ones: kernels that round are not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rungwise.trainable.training.compat import onednn_matmul

TOLERANCE = 1e-3  # of sums of 784 products of size 1: float32 is 1e-4 off, bfloat16 0.1
SMALL = 4096  # weights
SHAPES = ((128, 784, 128), (64, 784, 512), (512, 784, 128), (128, 128, 64), (784, 128, 128), (127, 129, 65))


def fast_products() -> bool:
    """Let oneDNN compute float32 products on the CPU, if it computes them in float32. Returns whether it does now."""
    backend = onednn_matmul()
    if backend is None:
        return False
    before = backend.fp32_precision
    backend.fp32_precision = "bf16"
    if _exact():
        return True
    backend.fp32_precision = before
    return False


def product_kernel(device: torch.device) -> str:
    """What computes this process's products, and for which processor: 'oneDNN, AVX512', 'cuBLAS, NVIDIA H100'."""
    if device.type == "cuda":
        return f"cuBLAS, {torch.cuda.get_device_name(device)}"
    backend = onednn_matmul()
    library = "oneDNN" if backend is not None and backend.fp32_precision == "bf16" else "MKL"
    return f"{library}, {torch.backends.cpu.get_cpu_capability()}"


@contextmanager
def small_products() -> Iterator[None]:
    """Within the block MKL computes products: a call of oneDNN costs 10 us, more than a product of a few thousand
    weights takes. To be used only where `onednn_matmul()` is not None."""
    backend = onednn_matmul()
    before = backend.fp32_precision
    backend.fp32_precision = "none"
    try:
        yield
    finally:
        backend.fp32_precision = before


def _exact() -> bool:
    """Whether products of the usual shapes, plain, transposed and batched, are float32's to the rounding of sums."""
    draw = torch.Generator().manual_seed(0)
    for rows, inner, columns in SHAPES:
        a, b = torch.randn((rows, inner), generator=draw), torch.randn((columns, inner), generator=draw)
        true = a.double() @ b.double().t()
        batched = torch.bmm(a.expand(2, -1, -1), b.t().expand(2, -1, -1))[1]
        for product in (
            a @ b.t(),
            (b @ a.t()).t(),
            a @ b.t().contiguous(),
            torch.addmm(true.float(), a, b.t()) / 2,
            batched,
        ):
            if (product - true).abs().max() > TOLERANCE:
                return False
    return True
