"""The one denoising step (Eq. 1), by the noise schedule of the base. A schedule of the wrong kind is a ValueError."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

TIMESTEP = 200  # the paper's fixed t

Scheduler = DDPMScheduler | FlowMatchEulerDiscreteScheduler


def ddpm_scheduler(config: Mapping[str, Any]) -> DDPMScheduler:
    """The base's noise schedule as a `DDPMScheduler`, from the config of whichever scheduler the base comes with."""
    if "beta_schedule" not in config:
        raise ValueError(f"The base's {config['_class_name']} has no DDPM noise schedule, which the one step needs.")
    return cast(DDPMScheduler, DDPMScheduler.from_config(dict(config)))


def flow_scheduler(config: Mapping[str, Any]) -> FlowMatchEulerDiscreteScheduler:
    """A flow-matching base's schedule, from the config of whichever flow-matching scheduler the base comes with."""
    if not config["_class_name"].startswith("FlowMatch"):
        raise ValueError(f"The base's {config['_class_name']} has no flow-matching schedule, which the one step needs.")
    return cast(FlowMatchEulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler.from_config(dict(config)))


_Numbers = TypeVar("_Numbers", bound=Callable[[Any], tuple[float, float]])


def _once_per_scheduler(function: _Numbers) -> _Numbers:
    """`function` of a scheduler, computed once for each: plain numbers, also where tensors have no values."""
    known: WeakKeyDictionary[Scheduler, tuple[float, float]] = WeakKeyDictionary()

    @wraps(function)
    def cached(scheduler: Scheduler) -> tuple[float, float]:
        if scheduler not in known:
            known[scheduler] = function(scheduler)
        return known[scheduler]

    return cast(_Numbers, cached)


@_once_per_scheduler
def one_step_coefficients(scheduler: Scheduler) -> tuple[float, float]:
    """`(alpha_t, beta_t)` of Eq. 1: sqrt(alpha-bar_t) and sqrt(1 - alpha-bar_t) from the base's own noise schedule."""
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(
            f"{type(scheduler).__name__} has no DDPM noise schedule, which the one step needs: use DDPMScheduler."
        )
    alpha_bar = float(scheduler.alphas_cumprod[TIMESTEP])
    return alpha_bar**0.5, (1 - alpha_bar) ** 0.5


@_once_per_scheduler
def flow_point(scheduler: FlowMatchEulerDiscreteScheduler) -> tuple[float, float]:
    """`(t, sigma)`: the timestep of the training schedule that is nearest to `TIMESTEP`, and the share of noise there.

    That schedule is the scheduler as its config makes it, before any `set_timesteps`: all `num_train_timesteps`, with
    a constant `shift` applied and without dynamic shifting, which depends on the image's size. CogView4 shifts
    dynamically, so this is (200, 0.2) for it, as in the authors' release.
    """
    schedule = cast(Any, FlowMatchEulerDiscreteScheduler.from_config(scheduler.config))
    index = int((schedule.timesteps - TIMESTEP).abs().argmin())
    return float(schedule.timesteps[index]), float(schedule.sigmas[index])


def one_step(latents: torch.Tensor, prediction: torch.Tensor, scheduler: Scheduler) -> torch.Tensor:
    r"""`z_H = (z_L - beta_t n) / alpha_t` (Eq. 1), all (B, c, h, w).

    A base that predicts v is converted: `n = alpha_t v + beta_t z_L`, hence `z_H = alpha_t z_L - beta_t v`. One that
    matches flows predicts noise minus image: `z_H = z_L - sigma_t v`. Any other base is a ValueError.
    """
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return latents - flow_point(scheduler)[1] * prediction
    alpha, beta = one_step_coefficients(scheduler)
    kind = scheduler.config["prediction_type"]
    if kind == "epsilon":
        return (latents - beta * prediction) / alpha
    if kind == "v_prediction":
        return alpha * latents - beta * prediction
    raise ValueError(
        f"The base's scheduler says prediction_type={kind!r}: only 'epsilon' and 'v_prediction' are known."
    )
