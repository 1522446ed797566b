"""Fast float32 products are float32 products."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from rungwise.trainable.packing import matmul as products


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    before = torch.backends.mkldnn.matmul.fp32_precision
    yield
    torch.backends.mkldnn.matmul.fp32_precision = before


def test_whatever_kernels_are_taken_the_products_are_float32s() -> None:
    products.fast_products()
    a, b = torch.randn(300, 1000), torch.randn(200, 1000)
    assert (a @ b.t() - a.double() @ b.double().t()).abs().max() < products.TOLERANCE


def test_kernels_that_round_to_bfloat16_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    product = torch.Tensor.__matmul__

    def rounding(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if a.dtype == torch.float32 and torch.backends.mkldnn.matmul.fp32_precision == "bf16":
            return product(a.bfloat16(), b.bfloat16()).float()
        return product(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounding)
    assert not products.fast_products()
    assert torch.backends.mkldnn.matmul.fp32_precision == before
