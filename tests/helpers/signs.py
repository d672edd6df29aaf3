"""Small pictures with text, and an engine that searches them quickly."""

from PIL import Image, ImageDraw, ImageFont

from tadisr.ocr import OCREngine, load_engine


def quick_engine() -> OCREngine:
    return load_engine("rapidocr", threads=1, params={"Det.limit_side_len": 160})


def sign(*texts: str, size: tuple[int, int] = (220, 110)) -> Image.Image:
    """One line below the other, in black on white."""
    image = Image.new("RGB", size, "white")
    for number, text in enumerate(texts):
        ImageDraw.Draw(image).text((14, 10 + 45 * number), text, fill="black", font=ImageFont.load_default(26))
    return image


def small_sign(text: str) -> Image.Image:
    image = Image.new("RGB", (100, 40), "white")
    ImageDraw.Draw(image).text((10, 8), text, fill="black", font=ImageFont.load_default(20))
    return image
