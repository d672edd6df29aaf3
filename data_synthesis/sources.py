"""Where synthesis takes its photographs and text crops from."""

from pathlib import Path

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def find_images(folders: list[str] | list[Path]) -> list[Path]:
    """All images below `folders` (or the files themselves), sorted.

    Raises:
        FileNotFoundError: a folder that does not exist or holds no image.
    """
    found = []
    for folder in map(Path, folders):
        files = (
            [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        )
        if not files:
            raise FileNotFoundError(f"No images in {folder}: name a folder of .jpg, .png or .webp photographs.")
        found += files
    return found
