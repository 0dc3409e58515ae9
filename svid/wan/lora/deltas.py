"""What a LoRA changes one parameter by, as a function of that parameter. All arithmetic is fp32.

A delta is asked with the expert's own weight, never with one that another LoRA has already changed: only a DoRA looks
at it, and it was trained beside that weight. So the order of several LoRAs does not matter.

Sources: LoRA arXiv 2106.09685, FedPara/LoHa 2108.06098, LyCORIS 2309.14859, DoRA 2402.09353.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch


class Delta(Protocol):
    """A change of one parameter, before the strength."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the file that it is made of."""

    @property
    def is_zero(self) -> bool:
        """Whether it changes nothing, as far as the file alone tells: a factor that is all zeros (never trained)."""

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether it can be added to a parameter of `shape`."""

    def delta(self, base: torch.Tensor) -> torch.Tensor:
        """The change of the fp32 parameter `base`: fp32, of its shape, on its device. `base` is left as it is."""


@dataclass(frozen=True)
class Factor:
    """A matrix [m, n]: `left` itself, or `left` [m, r] times `right` [r, n]. As stored, on the CPU.

    Kernels of convolutions are flattened behind the first axis: [r, in, kt, kh, kw] counts as [r, in * kt * kh * kw].
    """

    left: torch.Tensor
    right: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """[m, n]."""
        last = self.left if self.right is None else self.right
        return self.left.shape[0], math.prod(last.shape[1:])

    @property
    def rank(self) -> int | None:
        """r, or None for a whole matrix."""
        return None if self.right is None else self.right.shape[0]

    @property
    def is_zero(self) -> bool:
        """Whether either matrix is all zeros."""
        return not (bool(self.left.any()) and (self.right is None or bool(self.right.any())))

    def matrix(self, device: torch.device) -> torch.Tensor:
        """fp32 [m, n] on `device`."""
        left = self.left.to(device, torch.float32).flatten(1)
        return left if self.right is None else left @ self.right.to(device, torch.float32).flatten(1)


def _is_matrix_of(matrix: tuple[int, int], shape: tuple[int, ...]) -> bool:
    return len(shape) > 1 and matrix == (shape[0], math.prod(shape[1:]))


@dataclass(frozen=True)
class Full:
    """`.diff`, `.diff_b`, `.diff_m`: the change itself, of the parameter's shape, times `scale`."""

    keys: tuple[str, ...]
    values: torch.Tensor
    scale: float = 1.0

    @property
    def is_zero(self) -> bool:
        """All zeros."""
        return not (self.scale and bool(self.values.any()))

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Only the very shape: a vector must not be spread over a matrix."""
        return tuple(self.values.shape) == shape

    def delta(self, base: torch.Tensor) -> torch.Tensor:
        """scale * values."""
        return self.scale * self.values.to(base.device, torch.float32)


@dataclass(frozen=True)
class LowRank:
    """LoRA: scale * up @ down, with `up` [out, r] and `down` [r, in, ...]."""

    keys: tuple[str, ...]
    factor: Factor
    scale: float

    @property
    def is_zero(self) -> bool:
        """A half that is all zeros, or alpha 0."""
        return not self.scale or self.factor.is_zero

    def fits(self, shape: tuple[int, ...]) -> bool:
        """[out, in]; for a convolution `down` may be flat, but no kernel of another form."""
        down = self.factor.right
        flat = down is None or down.ndim == 2 or tuple(down.shape[1:]) == shape[1:]
        return flat and _is_matrix_of(self.factor.shape, shape)

    def delta(self, base: torch.Tensor) -> torch.Tensor:
        """scale * up @ down."""
        return self.scale * self.factor.matrix(base.device).view(base.shape)


@dataclass(frozen=True)
class Kronecker:
    """LoKr: scale * kron(first, second), `first` [a, c], `second` [b, d, ...] for a weight [a * b, c * d, ...]."""

    keys: tuple[str, ...]
    first: Factor
    second: Factor
    scale: float

    @property
    def is_zero(self) -> bool:
        """A factor that is all zeros, or alpha 0."""
        return not self.scale or self.first.is_zero or self.second.is_zero

    def fits(self, shape: tuple[int, ...]) -> bool:
        """The product of the factors' shapes."""
        (a, c), (b, d) = self.first.shape, self.second.shape
        last = self.second.left if self.second.right is None else self.second.right
        flat = last.ndim == 2 or tuple(last.shape[2:]) == shape[2:]
        return flat and _is_matrix_of((a * b, c * d), shape)

    def delta(self, base: torch.Tensor) -> torch.Tensor:
        """scale * kron. A kernel may be flat while it is multiplied, because it stays innermost."""
        product = torch.kron(self.first.matrix(base.device), self.second.matrix(base.device))
        return self.scale * product.view(base.shape)


@dataclass(frozen=True)
class Hadamard:
    """LoHa: scale * (w1_a @ w1_b) * (w2_a @ w2_b), both products of the weight's shape."""

    keys: tuple[str, ...]
    first: Factor
    second: Factor
    scale: float

    @property
    def is_zero(self) -> bool:
        """A factor that is all zeros, or alpha 0."""
        return not self.scale or self.first.is_zero or self.second.is_zero

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Both factors have the weight's shape."""
        return self.first.shape == self.second.shape and _is_matrix_of(self.first.shape, shape)

    def delta(self, base: torch.Tensor) -> torch.Tensor:
        """scale * first * second, value by value."""
        return self.scale * (self.first.matrix(base.device) * self.second.matrix(base.device)).view(base.shape)


@dataclass(frozen=True)
class Decomposed:
    """DoRA: W' = magnitude * (W + D) / ||W + D||, where D is another delta's change. The change is W' - W, so that a
    strength s gives W + s * (W' - W), as ComfyUI has it.

    The magnitude's shape says over what the norm goes. [out] (PEFT) and [out, 1, ...] (LyCORIS on the output) hold one
    number per row; [1, in, 1, ...] (LyCORIS' default, the paper's columns) one per input. Machine epsilon is added to
    the norm, as LyCORIS and ComfyUI do. For rows, ComfyUI divides by ||W|| instead; PEFT, LyCORIS and the paper don't.
    """

    keys: tuple[str, ...]
    direction: Delta
    magnitude: torch.Tensor

    @property
    def is_zero(self) -> bool:
        """A direction that was never trained. Its magnitudes are then the norms that training began with."""
        return self.direction.is_zero

    def fits(self, shape: tuple[int, ...]) -> bool:
        """A direction of the weight's shape, and one magnitude per row or per input."""
        ones = (1,) * (len(shape) - 2)
        magnitudes = ((shape[0],), (shape[0], 1, *ones), (1, *shape[1:2], *ones))
        return self.direction.fits(shape) and tuple(self.magnitude.shape) in magnitudes

    def delta(self, base: torch.Tensor) -> torch.Tensor:
        """W' - W."""
        moved = base + self.direction.delta(base)
        magnitude = self.magnitude.to(base.device, torch.float32)
        per_row = magnitude.shape[0] == base.shape[0]
        over = tuple(axis for axis in range(base.ndim) if axis != (0 if per_row else 1))
        norm = torch.linalg.vector_norm(moved, dim=over, keepdim=True) + torch.finfo(torch.float32).eps
        decomposed: torch.Tensor = magnitude.view(norm.shape) / norm * moved
        return decomposed - base


@dataclass(frozen=True)
class Total:
    """Several changes of one parameter, added up: a file may have both a pair and a `.diff` for it."""

    parts: tuple[Delta, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all parts."""
        return tuple(key for part in self.parts for key in part.keys)

    @property
    def is_zero(self) -> bool:
        """No part changes anything."""
        return all(part.is_zero for part in self.parts)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Every part fits."""
        return all(part.fits(shape) for part in self.parts)

    def delta(self, base: torch.Tensor) -> torch.Tensor:
        """The sum."""
        total = torch.zeros_like(base)
        for part in self.parts:
            total += part.delta(base)
        return total
