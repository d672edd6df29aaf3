"""Score restored images of a folder of real photos: PSNR, SSIM, OCR-A.

    python benchmarks/real_text.py DATA                      # bicubic and tadisr-tiny
    python benchmarks/real_text.py DATA --model runs/tiny/weights --real-esrgan --save out/

DATA holds lr/*.png, hr/*.png (4x) and truth.json: [{"name", "text": [{"box": 4x2, "text"}]}].
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tadisr import TADiSRPipeline
from tadisr.metrics.image import psnr, ssim
from tadisr.metrics.text import summarize_lines
from tadisr.ocr import crop_line, load_engine


def bicubic(lr: Image.Image) -> np.ndarray:
    return np.asarray(lr.resize((lr.width * 4, lr.height * 4), Image.Resampling.BICUBIC))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="tadisr-tiny")
    parser.add_argument("--real-esrgan", action="store_true", help="also run Real-ESRGAN x4plus (fetches its weights)")
    parser.add_argument("--save", type=Path, help="write the images and masks here")
    parser.add_argument("--no-bicubic", action="store_true")
    args = parser.parse_args()

    pipe = TADiSRPipeline.from_pretrained(args.model)
    masks = {}

    def ours(lr: Image.Image) -> np.ndarray:
        result = pipe(lr)
        masks[lr.filename] = result.text_masks[0]
        return np.asarray(result.images[0])

    methods = {} if args.no_bicubic else {"bicubic": bicubic}
    if args.real_esrgan:
        from real_esrgan import load_real_esrgan

        esrgan = load_real_esrgan()

        @torch.inference_mode()
        def run_esrgan(lr: Image.Image) -> np.ndarray:
            x = torch.from_numpy(np.array(lr)).permute(2, 0, 1)[None].float() / 255
            return (esrgan(x).clamp(0, 1) * 255).round().byte()[0].permute(1, 2, 0).numpy()

        methods["real-esrgan-x4plus"] = run_esrgan
    methods[str(args.model)] = ours

    engine = load_engine()
    truth = json.loads((args.data / "truth.json").read_text(encoding="utf-8"))
    print(f"{'method':24s} {'PSNR':>6s} {'SSIM':>6s} {'OCR-A':>6s} {'exact':>6s} {'seconds':>8s}")
    for name, method in methods.items():
        scores, read, wanted, seconds = [], [], [], 0.0
        for item in truth:
            lr = Image.open(args.data / "lr" / f"{item['name']}.png")
            hr = np.asarray(Image.open(args.data / "hr" / f"{item['name']}.png").convert("RGB"))
            started = time.perf_counter()
            image = method(lr)
            seconds += time.perf_counter() - started
            scores.append((psnr(image, hr), ssim(image, hr)))
            read += [reading.text for reading in engine.read([crop_line(image, line["box"]) for line in item["text"]])]
            wanted += [line["text"] for line in item["text"]]
            if args.save:
                folder = args.save / Path(name).name
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / f"{item['name']}.png")
                if lr.filename in masks:
                    masks.pop(lr.filename).save(folder / f"{item['name']}_mask.png")
        text = summarize_lines(read, wanted)
        mean = np.mean(scores, axis=0)
        print(
            f"{name:24s} {mean[0]:6.2f} {mean[1]:6.3f} {text['ocr_a']:6.3f} {text['exact']:6.3f} {seconds:8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
