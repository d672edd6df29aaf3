"""The one denoising step (Eq. 1), by the noise schedule of the base. A schedule of the wrong kind is a ValueError."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

from tadisr.io.messages import one_line
from tadisr.io.model_files import shown

TIMESTEP = 200  # the paper's fixed t

Scheduler = DDPMScheduler | FlowMatchEulerDiscreteScheduler
_PREDICTIONS = {DDPMScheduler: ("epsilon", "v_prediction"), DDIMScheduler: ("sample", "epsilon")}  # DDIM is TextDiff's


def ddpm_scheduler(config: Mapping[str, Any]) -> DDPMScheduler:
    """The base's noise schedule as a `DDPMScheduler`, from the config of whichever scheduler the base comes with."""
    if "beta_schedule" not in config:
        found = shown(config.get("_class_name", "scheduler"))
        raise ValueError(f"The base's {found} has no DDPM noise schedule, which the one step needs.")
    return build_schedule(DDPMScheduler, config)


def flow_scheduler(config: Mapping[str, Any]) -> FlowMatchEulerDiscreteScheduler:
    """A flow-matching base's schedule, from the config of whichever flow-matching scheduler the base comes with."""
    found = shown(config.get("_class_name", "scheduler"))
    if not found.startswith("FlowMatch"):
        raise ValueError(f"The base's {found} has no flow-matching schedule, which the one step needs.")
    return build_schedule(FlowMatchEulerDiscreteScheduler, config)


def build_schedule(cls: Any, config: Mapping[str, Any]) -> Any:
    """The scheduler of class `cls` by a config from a file, whose numbers `read_config` has bounded.

    Raises ValueError for a config that describes none, or one with which Eq. 1 or TextDiff's sampling would compute
    nonsense.
    """
    try:
        schedule = cls.from_config(dict(config))
        alphas = getattr(schedule, "alphas_cumprod", torch.ones(()))
        sigma = torch.tensor(flow_point(schedule)[1] if cls is FlowMatchEulerDiscreteScheduler else 0.0)
        sound = all(bool(((x >= 0) & (x <= 1)).all()) for x in (alphas, sigma))
        if cls is DDPMScheduler:
            sound = sound and len(alphas) > TIMESTEP and bool(alphas[TIMESTEP] > 0)
    except Exception as error:  # whatever the constructors raise for values that do not fit together
        raise ValueError(f"The config of the scheduler does not describe a {cls.__name__}: {one_line(error)}") from None
    if not sound:
        steps = config.get("num_train_timesteps", "the default number of")
        raise ValueError(f"The schedule of the {cls.__name__} has no usable noise level among {steps} steps.")
    return schedule


def check_prediction(schedule: Any) -> None:
    """Raise ValueError for a scheduler whose network predicts what is not known here."""
    known, kind = _PREDICTIONS.get(type(schedule)), schedule.config.get("prediction_type")
    if known and kind not in known:
        raise ValueError(f"The scheduler says prediction_type={kind!r:.50}: only {' and '.join(known)} are known.")


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
