"""The protocol of text-line super-resolution, with judges that really read and known numbers."""

import json
import math

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from helpers.source_samples import text_line
from tadisr.evaluation import text_lines
from tadisr.evaluation.line_recognizers import CONVENTIONS, EngineRecognizer, ScriptedRecognizer, load_recognizer
from tadisr.evaluation.text_lines import bicubic, evaluate_lines, squared_errors, ssim, str_filt
from tadisr.ocr import load_engine


class Samples:
    """Items drawn from a seed; the label of number i is LEVELS[i % 3], which is also how bright its HR image is."""

    LEVELS = ("dark", "Mid 2!", "BRIGHT")

    def __init__(self, count, seed=0):
        self.count, self.seed = count, seed

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(1000 * self.seed + i)
        hr = torch.rand(3, 32, 128, generator=generator) * 0.2 + (0.1, 0.4, 0.7)[i % 3]
        return {"lr": F.avg_pool2d(hr, 2), "hr": hr, "label": self.LEVELS[i % 3]}


def brightness(images):
    """A judge that reads the samples above."""
    level = images.mean((1, 2, 3))
    return ["dark" if x < 0.35 else "mid2" if x < 0.65 else "b-r-i-g-h-t" for x in level.tolist()]


def nearest(lr):
    return F.interpolate(lr, scale_factor=2)


def dim(lr):
    """A method that ruins every brightest line."""
    return nearest(lr) * torch.where(lr.mean((1, 2, 3), keepdim=True) > 0.7, 0.5, 1.0)


@pytest.mark.parametrize(
    ("text", "compared"),
    [("Rent-a-Fence 24h!", "rentafence24h"), ("ÉCOLE №5", "cole5"), ("出口", ""), ("", ""), ("ＡＢ", "")],
)
def test_texts_are_compared_by_lower_case_letters_and_digits(text, compared):
    assert str_filt(text) == compared


def test_bicubic_is_pillow_s():
    pixels = np.random.default_rng(0).integers(100, 150, (16, 64, 3), np.uint8)
    wanted = np.asarray(Image.fromarray(pixels).resize((128, 32), Image.BICUBIC), np.float32)
    lr = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    made = bicubic(lr, (32, 128))[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(made - wanted).max() < 1.2  # Pillow rounds after each of its two passes
    extreme = bicubic((lr > 0.5).float(), (32, 128))
    assert extreme.min() == 0 and extreme.max() == 1


def test_ssim_by_another_implementation():
    rng = np.random.default_rng(0)
    x = rng.random((32, 128, 3))
    y = (x + rng.normal(0, 0.1, x.shape)).clip(0, 1)
    taps = cv2.getGaussianKernel(11, 1.5)
    blur = lambda z: cv2.sepFilter2D(z, -1, taps, taps, borderType=cv2.BORDER_CONSTANT)  # noqa: E731
    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    wanted = ((2 * mx * my + 1e-4) * (2 * vxy + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))).mean()
    both = [torch.from_numpy(z).permute(2, 0, 1)[None].float() for z in (x, y)]
    assert ssim(*both) == pytest.approx([wanted], abs=1e-6)
    assert ssim(both[0], both[0]) == pytest.approx([1.0])


@pytest.fixture(scope="module")
def report():
    return evaluate_lines(
        {"nearest": nearest, "dim": dim}, {"easy": Samples(9), "hard": Samples(3, 1)}, {"level": brightness}, 4
    )


def test_rows_and_accuracy(report):
    assert list(report.scores) == ["bicubic", "nearest", "dim", "HR"]
    assert report.n == {"easy": 9, "hard": 3, "average": 12}
    accuracy = {name: report.scores[name]["average"]["accuracy/level"].value for name in report.scores}
    assert accuracy == {"bicubic": 1, "nearest": 1, "dim": pytest.approx(2 / 3), "HR": 1}
    against = report.against_bicubic
    assert list(against) == ["nearest", "dim"] and against["nearest"]["level"]["difference"] == 0
    assert against["nearest"]["level"]["p"] == 1
    lost = against["dim"]["level"]
    assert lost["difference"] == pytest.approx(-1 / 3) and lost["interval"][0] < -1 / 3 < lost["interval"][1] <= 0
    assert lost["p"] < 0.2
    low, high = report.scores["dim"]["easy"]["accuracy/level"].interval
    assert low < 2 / 3 < high


def test_average_is_weighted_by_lines(report):
    for method in ("bicubic", "nearest", "dim"):
        for measure in ("psnr", "psnr_per_batch", "ssim"):
            easy, hard, average = (report.scores[method][part][measure].value for part in ("easy", "hard", "average"))
            assert average == pytest.approx((9 * easy + 3 * hard) / 12), measure
            assert easy != hard
    assert report.scores["HR"]["average"]["psnr"].value is None  # HR is not compared with itself


def test_psnr_in_both_forms():
    data = Samples(8)
    lr, hr = (torch.stack([data[i][part] for i in range(8)]) for part in ("lr", "hr"))
    errors = squared_errors(nearest(lr), hr)
    assert errors == pytest.approx(((nearest(lr) - hr) ** 2).mean((1, 2, 3)).numpy(), rel=1e-5)
    for batch_size in (1, 3, 8):
        scores = evaluate_lines({"m": dim}, {"easy": data}, {}, batch_size).scores["m"]["easy"]
        errors = squared_errors(dim(lr), hr)
        per_image = np.mean([10 * math.log10(1 / e) for e in errors])
        batches = [errors[i : i + batch_size].mean() for i in range(0, 8, batch_size)]
        assert scores["psnr"].value == pytest.approx(per_image)
        assert scores["psnr_per_batch"].value == pytest.approx(np.mean([10 * math.log10(1 / e) for e in batches]))
    assert abs(per_image - scores["psnr_per_batch"].value) > 1  # they really differ


@settings(deadline=None, max_examples=8)
@given(st.integers(1, 12), st.integers(1, 12))
def test_results_do_not_depend_on_the_batch_size(one, other):
    reports = [
        evaluate_lines({"dim": dim}, {"easy": Samples(7)}, {"level": brightness}, size).to_dict()
        for size in (one, other)
    ]
    for method in reports[0]["scores"]:
        for subset in ("easy", "average"):
            first, second = (found["scores"][method][subset] for found in reports)
            for measure in set(first) - {"psnr_per_batch", "lpips"}:
                if first[measure]["value"] is None:  # HR's fidelity to itself
                    assert method == "HR" and second[measure]["value"] is None
                    continue
                assert first[measure]["value"] == pytest.approx(second[measure]["value"], rel=1e-9), measure
                assert first[measure]["interval"] == pytest.approx(second[measure]["interval"], rel=1e-9), measure
    assert reports[0]["against_bicubic"] == reports[1]["against_bicubic"]


def test_exact_restoration_has_no_psnr():
    data = Samples(4)
    hr = torch.stack([data[i]["hr"] for i in range(4)])
    scores = evaluate_lines({"copy": lambda lr: hr}, {"easy": data}, {}, 4).scores["copy"]["average"]
    assert scores["psnr"].value is None and scores["psnr_per_batch"].value is None
    assert scores["ssim"].value == pytest.approx(1) and scores["lpips"].value is None


def test_lpips_gets_pictures():
    def distance(image, reference):
        assert image.dtype == reference.dtype == np.uint8 and image.shape == reference.shape == (32, 128, 3)
        return float(np.abs(image.astype(float) - reference).mean())

    scores = evaluate_lines({"dim": dim}, {"easy": Samples(6)}, {}, lpips=distance).scores
    assert scores["dim"]["easy"]["lpips"].value > 2 * scores["bicubic"]["easy"]["lpips"].value > 0
    assert scores["HR"]["easy"]["lpips"].value is None


def test_outputs_are_clipped():
    loud = {"loud": lambda lr: nearest(lr) + (nearest(lr) > 0.8) * 5}
    scores = evaluate_lines(loud, {"easy": Samples(6)}, {"level": brightness}).scores
    assert scores["loud"]["easy"]["psnr"].value > 10


def test_report_as_json_and_markdown(report):
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["scores"]["dim"]["easy"]["accuracy/level"]["value"] == pytest.approx(2 / 3)
    assert plain["batch_size"] == 4 and plain["definitions"]["psnr"].startswith("dB")
    text = report.to_markdown()
    tables = text.split("\n\n")
    heads = [table.split(" | ")[0] for table in tables[:5]]
    assert heads == [
        "| accuracy ↑, level, %", "| PSNR ↑", "| PSNR per batch ↑, batches of 4", "| SSIM ↑", "| LPIPS ↓",
    ]  # fmt: skip
    for table in tables[:5]:
        rows = table.splitlines()
        assert len(rows) == 6 and len({row.count("|") for row in rows}) == 1
    assert "| easy (n = 9) | hard (n = 3) | average (n = 12) |" in tables[0]
    assert "| HR | – | – | – |" in tables[1] and "| dim | – | – | – |" in tables[4]
    assert "| bicubic | 100.0 [100.0, 100.0] |" in tables[0]
    assert "- dim – bicubic, level: -33.3 points, p = 0." in tables[5]


@pytest.mark.parametrize(
    ("methods", "subsets", "recognizers", "batch_size", "message"),
    [
        ({"HR": nearest}, {"easy": Samples(2)}, {}, 2, "The row HR is always there"),
        ({}, {}, {}, 2, r"Expected subsets by name, none of them called 'average'; got \[\]"),
        ({}, {"average": Samples(2)}, {}, 2, r"none of them called 'average'; got \['average'\]"),
        ({}, {"easy": Samples(0)}, {}, 2, "The subset easy holds no lines"),
        ({}, {"easy": Samples(2)}, {}, 0, "batch_size must be at least 1, not 0"),
        ({"same": lambda lr: lr}, {"easy": Samples(2)}, {}, 2,
         r"same made \(2, 3, 16, 64\) of \(2, 3, 16, 64\): expected \(2, 3, 32, 128\)"),
        ({"none": lambda lr: None}, {"easy": Samples(2)}, {}, 2, "none made NoneType of"),
        ({"nan": lambda lr: nearest(lr) * math.nan}, {"easy": Samples(2)}, {}, 2, "nan returned values that are not f"),
        ({}, {"easy": Samples(2)}, {"mute": lambda images: []}, 2, "recogniser mute returned 0 texts for 2 images"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured(methods, subsets, recognizers, batch_size, message):
    with pytest.raises(ValueError, match=message):
        evaluate_lines(methods, subsets, recognizers, batch_size)


# Judges.


class Probe(nn.Module):
    """Class numbers (N, 5) that tell what came in: channels, height, width, whether it is centred; end."""

    def __init__(self, end: int):
        super().__init__()
        self.end = end

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        facts = [x.shape[1], x.shape[2] // 8, x.shape[3] // 16, int(x.min() < -0.5), self.end, 3]
        return torch.tensor(facts).repeat(len(x), 1)


@pytest.mark.parametrize(("kind", "read"), [("aster", "3481"), ("moran", "1460")])
def test_torchscript_judges_get_what_their_convention_says(tmp_path, kind, read):
    """MORAN: one channel, 32x100, [0, 1]; ASTER: three, 32x128, [-1, 1]. What follows the end is not read."""
    torch.jit.script(Probe(CONVENTIONS[kind].end)).save(tmp_path / "model.pt")
    with pytest.raises(ValueError, match="model.pt is a TorchScript file, a program .*add --allow-code"):
        load_recognizer(f"{kind}:{tmp_path / 'model.pt'}")
    judge = load_recognizer(f"{kind}:{tmp_path / 'model.pt'}", allow_code=True)
    images = torch.rand(2, 3, 16, 64, generator=torch.Generator().manual_seed(0))
    assert judge(images) == [read, read]


def test_torchscript_judges_may_return_scores(tmp_path):
    class Scores(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Red, green and blue in order of brightness as digits, then padding, then the end."""
            means = x.mean((2, 3))  # (N, 3)
            order = torch.cat([means.argsort(1), torch.tensor([[95, 94]]).repeat(len(x), 1)], 1)
            return torch.nn.functional.one_hot(order, 97).float()

    torch.jit.script(Scores()).save(tmp_path / "model.pt")
    images = torch.tensor([[0.9, 0.1, 0.5], [0.2, 0.3, 0.4]])[..., None, None].expand(2, 3, 32, 128)
    assert load_recognizer(f"aster:{tmp_path / 'model.pt'}", allow_code=True)(images) == ["120", "012"]


def test_alphabets():
    """As the public weights number them."""
    aster, moran = CONVENTIONS["aster"], CONVENTIONS["moran"]
    assert len(aster.alphabet) == aster.end == 94 and aster.alphabet[10] == "a" and aster.alphabet[36] == "A"
    assert aster.alphabet[93] == "~" and moran.alphabet[:11] == "0123456789a" and len(moran.alphabet) == moran.end == 36


def test_torchscript_files_that_do_not_fit(tmp_path):
    with pytest.raises(FileNotFoundError, match="No recogniser .*none.pt: name a TorchScript file"):
        load_recognizer(f"aster:{tmp_path / 'none.pt'}")
    (tmp_path / "weights.pt").write_bytes(b"no model")
    with pytest.raises(ValueError, match="weights.pt is not a TorchScript file") as error:
        load_recognizer(f"moran:{tmp_path / 'weights.pt'}", allow_code=True)
    assert "\n" not in str(error.value)
    images = torch.zeros(2, 3, 32, 128)
    for number, (module, message) in enumerate(
        (
            (nn.Flatten(0), r"expected \(N, T, K\) or \(N, T\) with N = 2, got \(24576,\)"),
            (nn.Flatten(1), "must be integers, not torch.float32"),
        )
    ):
        path = tmp_path / f"{number}.pt"
        torch.jit.script(module).save(path)
        with pytest.raises(ValueError, match=message):
            ScriptedRecognizer(path, CONVENTIONS["aster"], allow_code=True)(images)
    broken = nn.Conv2d(3, 3, 1)
    nn.init.constant_(broken.bias, float("nan"))
    torch.jit.script(broken).save(path)
    with pytest.raises(ValueError, match="bias is not finite"):
        ScriptedRecognizer(path, CONVENTIONS["aster"], allow_code=True)


def test_ocr_engines_as_judges():
    words = ("Harbour", "PLATFORM", "Exit 2047")
    pixels = [Image.fromarray(text_line(word, 48, 1)[0]).resize((128, 32), Image.BICUBIC) for word in words]
    images = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 for image in pixels])
    judge = EngineRecognizer(load_engine("rapidocr", threads=1))
    assert [str_filt(text) for text in judge(images)] == [str_filt(word) for word in words]
    blurred = F.interpolate(F.avg_pool2d(images, (8, 8)), (32, 128), mode="bicubic").clamp(0, 1)
    items = [{"lr": F.avg_pool2d(x, 2), "hr": x, "label": word} for x, word in zip(images, words, strict=True)]
    report = evaluate_lines({"ruin": lambda lr: blurred[: len(lr)]}, {"three": items}, {"rapidocr": judge})
    accuracy = {name: scores["three"]["accuracy/rapidocr"].value for name, scores in report.scores.items()}
    assert accuracy["HR"] == 1 and accuracy["ruin"] == 0


def test_full_width_letters_count_as_letters():
    class Wide:
        def read(self, lines):
            from tadisr.ocr import Reading

            assert all(line.shape == (48, 192, 3) and line.dtype == np.uint8 for line in lines)
            return [Reading("ＥＸＩＴ", 1.0) for _ in lines]

    assert EngineRecognizer(Wide())(torch.zeros(2, 3, 32, 128)) == ["EXIT", "EXIT"]


def test_crnn_as_judge(tmp_path):
    recognizer = pytest.importorskip("tadisr.models.textdiff.recognizer")
    torch.manual_seed(0)
    model = recognizer.CRNN(channels=(4, 4, 8, 8, 8, 8, 8), hidden=8).eval()
    model.save_pretrained(tmp_path / "crnn")
    torch.save(model.state_dict(), tmp_path / "public.pth")
    images = torch.rand(3, 3, 32, 128, generator=torch.Generator().manual_seed(1))
    wanted = model.read(images)
    assert any(wanted)
    assert load_recognizer(f"crnn:{tmp_path / 'crnn'}")(images) == wanted
    assert load_recognizer(f"crnn:{tmp_path / 'public.pth'}")(images) == wanted
    with pytest.raises(FileNotFoundError, match="No CRNN .*nowhere: give crnn-tiny"):
        load_recognizer(f"crnn:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize("name", ["parseq", "aster", "crnn", "crnn:", "rapidocr:x"])
def test_unknown_judges(name):
    with pytest.raises(ValueError, match=f"No recogniser '{name}': choose one of rapidocr, .*aster:FILE, moran:FILE"):
        load_recognizer(name)


def test_definitions_are_complete(report):
    assert set(text_lines.FIDELITY) < set(text_lines.DEFINITIONS)
    assert all(score.interval is None for method in report.scores.values()
               for score in [method["easy"]["psnr_per_batch"]])  # fmt: skip
