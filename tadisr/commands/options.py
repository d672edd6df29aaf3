"""What several commands do with their options."""

from typing import TYPE_CHECKING, Any

from tadisr.io.messages import UserError, one_line

if TYPE_CHECKING:
    from tadisr.loading.load import Restorer


def usable_device(name: str) -> str:
    """The device of that name, or for "auto" the fastest here.

    Raises:
        UserError: a device that cannot be used.
    """
    from tadisr.loading.load import choose_device

    try:
        return choose_device(name)
    except ValueError as error:
        raise UserError(str(error)) from None


def load_model(name: str, device: str, pipeline: str, dtype: str = "auto", **options: Any) -> "Restorer":
    """See `tadisr.load`.

    Raises:
        UserError: a device or a model that cannot be used.
    """
    from tadisr.loading.load import load

    device = usable_device(device)
    try:
        return load(name, device, dtype, pipeline, **options)
    except Exception as error:  # an incomplete, damaged or foreign model raises nearly anything
        advice = one_line(error).replace("base_model=FOLDER", "--base-model FOLDER")
        raise UserError(f"cannot load {name}: {advice}") from None
