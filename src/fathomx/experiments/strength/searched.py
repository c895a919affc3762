"""The search: settings in which predictive coding might be ahead of backprop."""

from __future__ import annotations

from fathomx.experiments.strength.networks import Chain, Residual
from fathomx.experiments.strength.setting import Setting


def grid_from(lowest: float, count: int = 8) -> tuple[float, ...]:
    """Learning rates from the lowest upward, four to a decade."""
    return tuple(float(f"{lowest * 10 ** (place / 4):.2g}") for place in range(count))


def search_settings() -> dict[str, Setting]:
    """Where predictive coding might be ahead of backprop."""
    tanh, gelu = Chain(5, 64, "tanh", gain=0.3), Chain(5, 64, "gelu", gain=0.3)
    # Weights as many programs draw them: evenly from -1 / sqrt(fan_in) to 1 / sqrt(fan_in).
    small = Chain(5, 64, "gelu", gain=3**-0.5)
    ordinary, plain = Chain(5, 64, "gelu", gain=2**0.5), Chain(4, 64, "gelu", gain=2**0.5)
    narrow, wider = Residual(8, 32), Residual(8, 64)
    return {
        "near a saddle, tanh, SGD": Setting(tanh, "SGD", grid_from(0.1), 64, 100),
        "near a saddle, tanh, Adam": Setting(tanh, "Adam", grid_from(1e-3), 64, 100),
        "near a saddle, GELU, SGD": Setting(gelu, "SGD", grid_from(0.32), 64, 100),
        "near a saddle, GELU, Adam": Setting(gelu, "Adam", grid_from(1e-3), 64, 100),
        "small weights, GELU, SGD": Setting(small, "SGD", grid_from(0.1), 64, 100),
        "small weights, GELU, Adam": Setting(small, "Adam", grid_from(1e-3), 64, 100),
        "ordinary weights, GELU, SGD": Setting(ordinary, "SGD", grid_from(0.0056), 64, 100),
        "ordinary weights, GELU, Adam": Setting(ordinary, "Adam", grid_from(1e-3), 64, 100),
        "30 updates, SGD": Setting(plain, "SGD", grid_from(0.01), 64, 30),
        "30 updates, Adam": Setting(plain, "Adam", grid_from(1e-3), 64, 30),
        "30 updates, residual, Adam": Setting(wider, "Adam", grid_from(0.1), 64, 30),
        "200 updates, residual, Adam": Setting(narrow, "Adam", grid_from(0.1), 64, 200),
        "online, SGD": Setting(plain, "SGD", grid_from(1.8e-3), 1, 1000),
        "online, Adam": Setting(plain, "Adam", grid_from(1e-4), 1, 1000),
        "online, residual, SGD": Setting(wider, "SGD", grid_from(1.0), 1, 1000),
        "near a saddle, GELU, clipped": Setting(gelu, "clipped SGD", grid_from(0.32), 64, 100),
        "30 updates, clipped": Setting(plain, "clipped SGD", grid_from(0.32), 64, 30),
        "online, clipped": Setting(plain, "clipped SGD", grid_from(0.032), 1, 1000),
        "batch 4, SGD": Setting(plain, "SGD", grid_from(3.2e-3), 4, 500),
        "batch 4, Adam": Setting(plain, "Adam", grid_from(3.2e-4), 4, 500),
    }
