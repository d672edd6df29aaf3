"""The settings of a TextDiff call: how much noise, and how much of the change is added."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Shares:
    """Three settings from 0 to 1; with 1, the default, everything is as in the paper."""

    temperature: float = 1.0
    """Factor of the noise that sampling starts from. 1: the result is one of the images that the line may be. 0: no
    noise, and no strokes that only noise has chosen."""
    strength: float = 1.0
    """Share of the model's change to the enlarged crop that is added. A small model reads best below 1: a doubtful
    stroke that stays soft is guessed right more often than one that was sharpened."""
    residual_strength: float = 1.0
    """Share of MRD's residual in that change."""

    def __post_init__(self):
        for name, value in asdict(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {value!r}.")
