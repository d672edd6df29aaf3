"""Colours as they are printed and painted: (ground, ink, accent) triples, moved a little each time they are used."""

from typing import NamedTuple

import numpy as np

from tadisr.data_synthesis.backgrounds.surfaces import rgb
from tadisr.io.images import LUMA

LUMA32 = np.array(LUMA, np.float32)
WHITE = np.array([0.97, 0.97, 0.96], np.float32)
DARK = np.array([0.06, 0.06, 0.07], np.float32)

SIGNS = [
    ("#1d4f91", "#ffffff", "#ffffff"), ("#0b3d78", "#ffffff", "#f2c230"), ("#00693e", "#ffffff", "#ffffff"),
    ("#0f5a3c", "#f4f4f0", "#f4d35e"), ("#b3202a", "#ffffff", "#ffffff"), ("#f2c230", "#161616", "#161616"),
    ("#f5f5f2", "#b3202a", "#b3202a"), ("#f7f7f5", "#143d7a", "#143d7a"), ("#fafaf8", "#151515", "#b3202a"),
    ("#1b1c1e", "#f6f6f4", "#d9b45a"), ("#5e3a20", "#f3e5c8", "#f3e5c8"), ("#e8742c", "#1a1a1a", "#ffffff"),
    ("#2d2f33", "#f0eee8", "#9a9a96"), ("#dcdcd8", "#232323", "#355f8f"), ("#30506b", "#f1efe6", "#f1efe6"),
    ("#f0ece0", "#2c2620", "#7a2e22"), ("#8c1c24", "#f4dc9a", "#f4dc9a"), ("#f6f4ee", "#0f6a43", "#0f6a43"),
]  # fmt: skip
SHOPS = [
    ("#22242a", "#f4efe2", "#c9a24e"), ("#f3f0e8", "#1f1f1f", "#a63a2a"), ("#a81e24", "#fff7e0", "#ffd24a"),
    ("#1f4e3d", "#f2e8cf", "#d7b66a"), ("#14335c", "#ffffff", "#e0503a"), ("#e9b92f", "#1c1a16", "#a81e24"),
    ("#ffffff", "#d0222b", "#1c1c1c"), ("#5a2a1c", "#f0d9a8", "#f0d9a8"), ("#e6e2d8", "#3a332a", "#7d6a4a"),
    ("#0f7a6b", "#ffffff", "#f2e14c"), ("#2b2b2b", "#ffffff", "#e23b2e"), ("#7a1f4a", "#ffffff", "#f3c9d8"),
]  # fmt: skip
PRINTS = [
    ("#ffffff", "#111111", "#b01c24"), ("#ffffff", "#1a1a1a", "#1b4f9c"), ("#f7f3e8", "#2a241d", "#8a3b1e"),
    ("#f2f2f0", "#202020", "#00695c"), ("#fff8e1", "#3b2412", "#c62828"), ("#eef3f7", "#15263a", "#d9822b"),
    ("#fdf1ee", "#4a1a1a", "#b7263a"), ("#eaf2e4", "#1f3320", "#5f8f2f"), ("#f6f6f6", "#333333", "#e05a1c"),
    ("#f3c83a", "#1a1611", "#b3202a"), ("#b21f27", "#fff4dc", "#ffd84d"), ("#c81e2b", "#ffffff", "#ffe36b"),
    ("#12284b", "#f7f7f2", "#e0b64a"), ("#14161a", "#f2f0ea", "#c9a45c"), ("#214a3a", "#f3ecd8", "#e3c16f"),
    ("#e85d2a", "#ffffff", "#1f1a17"), ("#2f6fa8", "#ffffff", "#ffdf5a"), ("#3a3a3c", "#f5f5f5", "#e6b33d"),
    ("#e9dcc3", "#3a2a1c", "#7d2b20"), ("#f4b8b0", "#4a1f2a", "#ffffff"), ("#cfe3ea", "#17384a", "#d6472f"),
]  # fmt: skip
PAPERS = [
    ("#ffffff", "#161616", "#8a1f1f"), ("#fcfbf6", "#1e1b18", "#1f3f7a"), ("#f5efdf", "#2b231a", "#7a2f1a"),
    ("#f1f1ee", "#222222", "#444444"), ("#efe4cc", "#33271a", "#5c3317"), ("#f8f6f0", "#23252e", "#23408a"),
    ("#f7eef0", "#2a2226", "#a33a50"), ("#eef4ee", "#1f2722", "#1f6a44"), ("#e6ebf2", "#1d2430", "#33598c"),
]  # fmt: skip
SCREENS = [
    ("#ffffff", "#1f2328", "#0969da"), ("#f6f7f9", "#24292f", "#1a73e8"), ("#f3f3f3", "#1b1b1b", "#0067c0"),
    ("#fafafa", "#333333", "#07c160"), ("#1e1e1e", "#d4d4d4", "#569cd6"), ("#0d1117", "#c9d1d9", "#58a6ff"),
    ("#282c34", "#abb2bf", "#61afef"), ("#ffffff", "#222222", "#e1251b"), ("#17212b", "#f0f0f0", "#5eb5f7"),
    ("#fdf6e3", "#586e75", "#268bd2"), ("#f2f2f7", "#1c1c1e", "#ff9500"), ("#002b36", "#93a1a1", "#b58900"),
]  # fmt: skip


def luma(color: np.ndarray) -> float:
    """Brightness of an RGB colour, 0 to 1."""
    return float(np.asarray(color, np.float32) @ LUMA32)


class Palette(NamedTuple):
    """RGB colours, each (3,) float32 in [0, 1]."""

    ground: np.ndarray
    ink: np.ndarray
    accent: np.ndarray


def draw_palette(palettes: list[tuple[str, str, str]], rng: np.random.Generator) -> Palette:
    """One of the palettes, in a light and a fading of its own."""
    colors = np.stack([rgb(color) for color in palettes[rng.integers(len(palettes))]])
    colors += rng.normal(0, 0.025, (3, 3)).astype(np.float32)
    if rng.random() < 0.4:  # sun-bleached, cheaply printed
        gray = colors @ LUMA32
        colors += (gray[:, None] - colors) * rng.uniform(0, 0.5)
        colors = 0.03 + colors * rng.uniform(0.85, 0.97)
    return Palette(*colors.clip(0, 1).astype(np.float32))


def readable(color: np.ndarray, ground: np.ndarray, contrast: float) -> np.ndarray:
    """`color`; or, where its luma differs from the ground's by less than `contrast`, the same colour much darker or
    lighter, as a printer would choose it."""
    below = luma(ground)
    if abs(luma(color) - below) >= contrast:
        return color
    goal = np.float32(1.0 if below < 0.5 else 0.0)
    for amount in (0.55, 0.8):
        moved = color + (goal - color) * amount
        if abs(luma(moved) - below) >= contrast + 0.12:
            return moved
    return np.full(3, goal, np.float32)
