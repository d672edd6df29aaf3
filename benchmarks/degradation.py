"""Speed of the degradation against the same one in plain OpenCV and numpy, sample by sample, on one core.

Both carry out the same drawn plans, in turns. The plain version works on floats in 0..1, with 21x21 kernels as
published ("padded"), or with kernels cut to where they are not negligible, as ours are ("tight"). Processor time is
measured, so that other work on the machine counts less. Needs no data:

    OMP_NUM_THREADS=1 python benchmarks/degradation.py
    OMP_NUM_THREADS=1 python benchmarks/degradation.py --preset mild --size 96 --images 2000
    OMP_NUM_THREADS=1 python benchmarks/degradation.py --blurs
"""

import argparse
import time
from collections import defaultdict

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from tadisr.data_synthesis.degrade import Degradation, degrade, draw_plan, steps
from tadisr.data_synthesis.degrade.kernels import gaussian_vector, sinc_kernel
from tadisr.data_synthesis.degrade.steps import Blur, Jpeg, Noise, Resize, Scratch

INTERPOLATION = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


def plain_blur(image, step, padded):
    kernel = step.kernel if step.kernel.ndim == 2 else np.outer(step.kernel, step.kernel)
    if padded:
        kernel = np.pad(kernel, [((21 - side) // 2,) * 2 for side in kernel.shape])
    return cv2.filter2D(image, -1, kernel)


def plain_noise(image, step):
    if step.kind == "gaussian":
        noise = np.float32(np.random.randn(*image.shape[: 2 if step.gray else 3])) * step.strength / 255
    else:
        source = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if step.gray else image
        levels = np.clip((source * 255).round(), 0, 255) / 255
        photons = 2 ** np.ceil(np.log2(len(np.unique(levels))))
        noise = (np.float32(np.random.poisson(levels * photons) / photons) - levels) * step.strength
    if step.gray:
        noise = np.repeat(noise[..., None], 3, 2)
    return np.clip(image + noise, 0, 1)


def plain_jpeg(image, step):
    pixels = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, step.quality])[1]
    return np.float32(cv2.imdecode(data, cv2.IMREAD_COLOR)) / 255


def plain(image, plan, padded):
    """(H, W, 3) uint8 RGB to the same at LR size."""
    np.random.seed(0)
    x = np.float32(image[..., ::-1]) / 255
    for step in plan:
        if isinstance(step, Blur):
            x = plain_blur(x, step, padded)
        elif isinstance(step, Resize):
            x = cv2.resize(x, (step.width, step.height), interpolation=INTERPOLATION[step.mode])
        elif isinstance(step, Noise):
            x = plain_noise(x, step)
        elif isinstance(step, Jpeg):
            x = plain_jpeg(x, step)
    return np.clip((x * 255).round(), 0, 255).astype(np.uint8)[..., ::-1]


def picture(size):
    """Soft texture of many scales with lines of text on it, (size, size, 3) uint8."""
    rng = np.random.default_rng(0)
    image = np.full((size, size, 3), 128, np.float32)
    for octave in range(2, 8):
        noise = rng.standard_normal((max(2, size >> octave), max(2, size >> octave), 3), dtype=np.float32)
        image += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC) * 4 * octave
    image = image.clip(0, 255).astype(np.uint8)
    for line in range(24, size, 48):
        text = "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz ABCDEF 0123456789"), size // 16))
        cv2.putText(image, text, (8, line), cv2.FONT_HERSHEY_COMPLEX, 0.8, rng.integers(0, 256, 3).tolist(), 2)
    return image


def stages(image, config, count):
    """Milliseconds per image of each stage of ours."""
    spent = defaultdict(float)
    scratch = Scratch()
    for seed in range(count):
        start = time.process_time()
        plan = draw_plan(config, np.random.default_rng(seed), *image.shape[:2])
        spent["draw the plan"] += time.process_time() - start
        x = image
        for step in plan:
            start = time.process_time()
            x = steps.FUNCTIONS[type(step)](x, step, scratch)
            name = type(step).__name__.lower()
            if name == "noise":
                name = f"{step.kind} noise"
            spent[name] += time.process_time() - start
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"  {name:16s} {seconds / count * 1e3:7.3f} ms per image  {seconds / sum(spent.values()):5.1%}")


def blurs(image):
    """Milliseconds of the ways to blur one image with a square kernel."""
    torch.set_num_threads(1)
    x, scratch = image.astype(np.float32), Scratch()
    chw = torch.from_numpy(x).permute(2, 0, 1).contiguous()
    for size in (7, 11, 13, 15, 21):
        vector, kernel = gaussian_vector(5, size), sinc_kernel(1, size)
        weight = torch.from_numpy(kernel).expand(3, 1, size, size).contiguous()
        ways = {
            "two passes": lambda vector=vector: steps.blur(x, Blur(vector), scratch),
            "filter2D": lambda kernel=kernel: cv2.filter2D(x, -1, kernel),
            "our Fourier": lambda kernel=kernel: steps.blur_by_fourier(x, kernel, scratch),
            "torch conv2d": lambda weight=weight: F.conv2d(chw[None], weight, groups=3, padding="same"),
        }
        best = {}
        for name, way in ways.items():
            times = []
            for _ in range(7):
                start = time.process_time()
                way()
                times.append(time.process_time() - start)
            best[name] = min(times)
        print(f"{size}x{size}: " + ", ".join(f"{name} {seconds * 1e3:.2f}" for name, seconds in best.items()) + " ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="real-esrgan")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--blurs", action="store_true", help="only compare ways to blur")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    config, image = Degradation.preset(args.preset), picture(args.size)
    if args.blurs:
        blurs(image)
        return

    def drawn(seed):
        return draw_plan(config, np.random.default_rng(seed), args.size, args.size)

    contestants = {
        "ours": lambda seed: degrade(image, config, np.random.default_rng(seed)),
        "plain, padded": lambda seed: plain(image, drawn(seed), padded=True),
        "plain, tight": lambda seed: plain(image, drawn(seed), padded=False),
    }
    times = {name: np.zeros(args.images) for name in contestants}
    for name in contestants:
        contestants[name](0)
    order = list(contestants)
    for seed in range(args.images):
        order = order[1:] + order[:1]  # each follows each other one as often
        for name in order:
            start = time.process_time()
            contestants[name](seed)
            times[name][seed] = time.process_time() - start
    print(f"{args.preset}, HR {args.size} px, {args.images} images, one core")
    for name, spent in times.items():
        ratio = spent.sum() / times["ours"].sum()
        print(
            f"  {name:14s} {spent.mean() * 1e3:7.2f} ms per image (median {np.median(spent) * 1e3:.2f}), "
            f"{1 / spent.mean():6.1f} images per second, {ratio:.2f} of our time"
        )
    stages(image, config, args.images)


if __name__ == "__main__":
    main()
