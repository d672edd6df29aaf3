"""What several commands need of their options."""

import textwrap

from tadisr.io.messages import UserError


def choose_device(name: str) -> str:
    """The device of that name, or for "auto" the fastest here.

    Raises:
        UserError: a device that cannot be used.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except Exception as error:  # which kind depends on how this torch was built
        raise UserError(f"cannot use device {name}: {short(error)}") from None
    return name


def short(error: Exception) -> str:
    """An error's message in one line of at most 300 characters; its kind where it has none."""
    return textwrap.shorten(str(error) or type(error).__name__, 300, placeholder=" ...")
