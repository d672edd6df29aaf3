"""LPIPS, ST-LPIPS and FID, of uint8 RGB images (H, W, 3). All need a trained network, see `find_weights`."""

import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import torch

from tadisr.io.hashing import sha256
from tadisr.io.messages import one_line
from tadisr.io.model_files import check_tensors, load_pickled
from tadisr.metrics.st_lpips import load_st_lpips

ALEXNET = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
INCEPTION = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
SMALLEST = 32  # pixels; AlexNet's pooling leaves nothing of smaller images


def find_weights(url: str, folder: Path | None = None) -> Path:
    """The file that `url` ends in: in `folder` if given, else in torch.hub's cache, downloaded on first use.

    FileNotFoundError where `folder` does not hold it, or it cannot be downloaded.
    """
    name = url.rsplit("/", 1)[1]
    if folder is not None:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} holds no {name}.")
        return folder / name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        checksum = re.search(r"-([a-f0-9]{8})\.", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), checksum and checksum[1], progress=False)
        except (OSError, RuntimeError) as error:  # no network; another file than expected
            raise FileNotFoundError(
                f"{name} cannot be downloaded ({getattr(error, 'reason', error)}): name a folder that holds it."
            ) from None
    return path


@contextmanager
def _loading(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever torch and pickle raise for a damaged or foreign file
        raise ValueError(f"{path} does not hold the expected weights: {one_line(error, 500)}") from None


class _Distance:
    """Of whole images, 0 for equal ones. Sides of less than 32 pixels are filled up."""

    _model: torch.nn.Module
    _device: str

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, reference: np.ndarray) -> float:
        bottom, right = (max(0, SMALLEST - side) for side in image.shape[:2])
        x, y = (
            _tensor(cv2.copyMakeBorder(pixels, 0, bottom, 0, right, cv2.BORDER_REPLICATE)).to(self._device) / 127.5 - 1
            for pixels in (image, reference)
        )
        return self._model(x, y).item()


class LPIPS(_Distance):
    """Learned perceptual distance (version 0.1, AlexNet).

    `folder`: where torchvision's AlexNet file lies, see `find_weights`;
    ValueError for another file. ImportError without lpips or torchvision.
    """

    def __init__(self, folder: Path | None = None, device: str = "cpu"):
        path = find_weights(ALEXNET, folder)
        try:
            import lpips
        except ImportError as error:
            raise ImportError(f"LPIPS needs {error.name}: pip install 'tadisr[metrics]'.") from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lpips names the backbone in torchvision's old way
            model = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)

        with _loading(path):
            features = load_pickled(path)
            # the backbone keeps torchvision's numbers, in slices: "slice2.3.weight" is "features.3.weight"
            own = {key: features[f"features.{key.split('.', 1)[1]}"] for key in model.net.state_dict()}
            check_tensors(own, model.net.state_dict(), path)
            model.net.load_state_dict(own)
        self._model, self._device = model.to(device).eval(), device
        self.description = {"weights": path.name, "sha256": sha256(path)}


class ShiftTolerantLPIPS(_Distance):
    """ST-LPIPS with AlexNet, see `st_lpips`. ImportError without the package that holds its weights."""

    def __init__(self, device: str = "cpu"):
        self._model, self._device = load_st_lpips().to(device), device
        self.description = {"weights": "stlpips-pytorch", "version": version("stlpips-pytorch")}


class InceptionFeatures:
    """The features that FID compares: 2048 of Inception-v3 (torch-fidelity's; TensorFlow's 2015 weights and resizing).

    `folder`: where torch-fidelity's Inception file lies, see `find_weights`; ValueError for another file. ImportError
    without torch-fidelity.
    """

    def __init__(self, folder: Path | None = None, device: str = "cpu"):
        path = find_weights(INCEPTION, folder)
        try:
            from torch_fidelity import feature_extractor_inceptionv3 as inception
        except ImportError as error:
            raise ImportError(f"FID needs {error.name}: pip install 'tadisr[metrics]'.") from None
        make = inception.FeatureExtractorInceptionV3
        with _loading(path), tempfile.TemporaryDirectory() as folder_of_copy:
            state = load_pickled(path)
            # The package runs whatever a pickle holds, so it gets a file that was written here.
            copy = Path(folder_of_copy) / path.name
            torch.save(state, copy)
            model = make("inception", ["2048"], feature_extractor_weights_path=str(copy))
            check_tensors(state, model.state_dict(), path)
        self._model, self._device = model.to(device).eval(), device
        self.description = {"weights": path.name, "sha256": sha256(path)}

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(2048,) float64."""
        return self._model(_tensor(image).to(self._device))[0][0].double().cpu().numpy()


def frechet_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """FID: squared distance of two Gaussians fitted to features, (N, D) and (M, D), at least 2 each.

    With less than some thousand images it is biased upward: compare only at equal N.

    >>> frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [5.0]]))
    9.0
    """
    if min(len(features), len(reference)) < 2:
        raise ValueError(f"A covariance needs at least 2 images, got {len(features)} and {len(reference)}.")
    # the triangular factors R: a covariance is R'R / (n - 1)
    r1, r2 = (np.linalg.qr(x - x.mean(0), mode="r") / (len(x) - 1) ** 0.5 for x in (features, reference))
    # tr sqrt(S1 S2) is the nuclear norm of R1 R2', which needs no square root of a singular matrix
    cross = np.linalg.norm(r1 @ r2.T, "nuc")
    apart = np.sum((features.mean(0) - reference.mean(0)) ** 2)
    return float(max(0.0, apart + np.sum(r1**2) + np.sum(r2**2) - 2 * cross))


def _tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]  # (1, 3, H, W)
