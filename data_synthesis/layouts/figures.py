"""What is written in cells and corners rather than composed: prices, dates, telephones, codes. ASCII and one ¥."""

import numpy as np


def price(rng: np.random.Generator) -> str:
    """An amount, at times with a currency."""
    value = rng.uniform(1, 10 ** rng.integers(1, 5))
    text = f"{value:.2f}" if rng.random() < 0.7 else f"{value:.0f}"
    return str(rng.choice(["", "$", "¥", "$"])) + text


def date(rng: np.random.Generator) -> str:
    """A day or a time of day."""
    y, m, d = rng.integers(1990, 2030), rng.integers(1, 13), rng.integers(1, 29)
    time = f"{rng.integers(0, 24):02d}:{rng.integers(0, 60):02d}"
    days = [f"{y}-{m:02d}-{d:02d}", f"{m}/{d}/{y}", f"{d:02d}.{m:02d}.{y}", f"{y}/{m:02d}/{d:02d}", f"{m:02d}-{d:02d}"]
    return str(rng.choice([*days, time, f"{days[0]} {time}"]))


def phone(rng: np.random.Generator) -> str:
    """A telephone number."""
    a, b, c, d = rng.integers(100, 1000, 4)
    return str(
        rng.choice([f"{a}-{b}-{c}{d % 10}", f"+{a % 90 + 1} {b} {c} {d}", f"0{a}-{b}{c}0", f"400-{a}-{b}",
                    f"1{a % 70 + 30} {b}0 {c}1", f"({a}) {b}-{c}8"])
    )  # fmt: skip


def code(rng: np.random.Generator) -> str:
    """A number plate, room, flight, article or serial number."""
    letters = "".join(chr(c) for c in rng.integers(65, 91, 3))
    a, b = rng.integers(0, 10**6, 2)
    return str(
        rng.choice([f"{letters[0]}{a % 1000}", f"{letters}-{a % 10000:04d}", f"No.{a % 1000}", f"{a:06d}",
                    f"{letters[:2]} {a % 100:02d} {b % 1000:03d}", f"{a % 60}{letters[0]}", f"#{a % 5000}"])
    )  # fmt: skip


def percent(rng: np.random.Generator) -> str:
    """A discount."""
    share = 5 * rng.integers(1, 19)
    return str(rng.choice([f"-{share}%", f"{share}%", f"{share}% OFF"]))


def amount(rng: np.random.Generator) -> str:
    """A quantity with a unit."""
    unit = str(rng.choice(["ml", "g", "kg", "L", "cm", "mm", "km", "m", "W", "V", "pcs"]))
    return f"{rng.choice([rng.integers(1, 1000), 50 * rng.integers(1, 40)])}{rng.choice(['', ' '])}{unit}"


FIGURES = (price, date, phone, code, percent, amount)


def figure(rng: np.random.Generator) -> str:
    """Any of them."""
    return FIGURES[rng.integers(len(FIGURES))](rng)
