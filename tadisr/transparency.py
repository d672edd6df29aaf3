"""Transparent images, on plain arrays: what a person sees of them, and how a network that knows only RGB restores them.

Colour and alpha are straight: on a ground B a pixel looks like alpha C + (1 - alpha) B. A network restores the two as
two pictures: the colours, continued below what is invisible, and alpha as a gray picture, dark on white, as text mostly
is. Measured with tadisr-tiny on drawn logos, stamps and icons against the same laid on two grounds and solved for both
(`benchmarks/transparency.py`).
"""

import numpy as np

RELIABLE = 16 / 255
"""Alpha below which a pixel's colour is not believed: 8 bits of a faint colour are mostly rounding."""
GROUNDS = (1.0, 0.0, 0.5)
"""What a transparent image is laid on to be read: white; black or gray where more is seen on those."""
_ENOUGH = 0.25  # difference in brightness by which something is seen well
_REACH = 2  # LR pixels: how far bicubic interpolation looks


def bleed(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours continued into what is hardly visible, each from the nearest pixel that is visible.

    rgb (h, w, 3) and alpha (h, w) to (h, w, 3); floats in [0, 1]. Where nothing is visible, `rgb` itself.
    """
    try:
        import cv2
    except ImportError:
        raise ImportError("Transparent images need OpenCV: pip install opencv-python-headless.") from None

    hidden = (alpha < min(RELIABLE, alpha.max() / 2)).astype(np.uint8)
    if not hidden.any():
        return rgb
    _, nearest = cv2.distanceTransformWithLabels(hidden, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    labels = np.asarray(nearest, np.intp).ravel()
    visible = np.flatnonzero(hidden == 0)
    place = np.zeros(labels.max() + 1, np.intp)  # of each label, which are numbered from 1 in an order of OpenCV's own
    place[labels[visible]] = visible
    return rgb.reshape(-1, 3)[place[labels]].reshape(rgb.shape)


def settle(restored: np.ndarray, alpha: np.ndarray) -> None:
    """Make restored alpha exact where that of the input is flat, in place: what was opaque stays wholly opaque.

    restored (H, W), of any size; alpha (h, w), of the input.
    """
    reach = int(np.ceil(_REACH * max(1, alpha.shape[0] / restored.shape[0], alpha.shape[1] / restored.shape[1])))
    flat = sliding_maximum(alpha, reach) == -sliding_maximum(-alpha, reach)
    rows, columns = (
        np.arange(large) * small // large for large, small in zip(restored.shape, alpha.shape, strict=True)
    )
    for row, source in zip(restored, rows, strict=True):  # row by row: large images are large
        np.copyto(row, alpha[source][columns], where=flat[source][columns])


def sliding_maximum(values: np.ndarray, reach: int) -> np.ndarray:
    """The largest value within `reach` pixels to each side, along the last two axes; of the same shape."""
    for axis in (-1, -2):
        along = np.moveaxis(values, axis, 0)
        most = along.copy()
        for step in range(1, min(reach, len(along) - 1) + 1):
            np.maximum(most[step:], along[:-step], out=most[step:])
            np.maximum(most[:-step], along[step:], out=most[:-step])
        values = np.moveaxis(most, 0, axis)
    return values


def on_ground(image: np.ndarray, ground: float | np.ndarray) -> np.ndarray:
    """A transparent image, (h, w, 4) uint8 or floats, laid on a gray level or a picture in [0, 1]: (h, w, 3)."""
    if image.dtype == np.uint8:
        return np.rint(on_ground(image.astype(np.float32) / 255, ground) * 255).astype(np.uint8)
    rgb, alpha = image[..., :3], image[..., 3:]
    return rgb * alpha + ground * (1 - alpha)


def find_ground(image: np.ndarray) -> float:
    """The one of `GROUNDS` on which what is visible of `image`, (h, w, 4), is seen: white wherever that will do."""
    image = image.astype(np.float32) / 255 if image.dtype == np.uint8 else image
    visible = image[..., 3] > 0.5 * image[..., 3].max()
    if not visible.any():
        return GROUNDS[0]
    brightness = image[visible][:, :3].mean(1)
    contrasts = [float(np.quantile(np.abs(brightness - ground), 0.1)) for ground in GROUNDS]
    return next((g for g, c in zip(GROUNDS, contrasts, strict=True) if c > _ENOUGH), GROUNDS[int(np.argmax(contrasts))])


def seen(image: np.ndarray, *versions: np.ndarray) -> list[np.ndarray]:
    """Images as a person sees them: those of shape (h, w, 4) laid on the ground that shows the first; others as given.

    uint8, or floats in [0, 1].
    """
    if not any(x.ndim == 3 and x.shape[2] == 4 for x in (image, *versions)):
        return [image, *versions]
    ground = find_ground(next(x for x in (image, *versions) if x.shape[2] == 4))
    return [on_ground(x, ground) if x.shape[2] == 4 else x for x in (image, *versions)]
