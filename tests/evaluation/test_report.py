"""The evaluation: known answers from hand-made records, and whole runs with a real engine."""

import json
import math

import numpy as np
import pytest

from helpers.evaluation_samples import TEXTS, reduced, save, scene, write_folder, write_ftsr_folders
from tadisr.evaluation import runner
from tadisr.evaluation.markdown import main_table, to_markdown
from tadisr.evaluation.methods import Options, load_methods
from tadisr.evaluation.pairs import ANNOTATION, ENGINE, open_data
from tadisr.evaluation.records import Records
from tadisr.evaluation.report import EvaluationOptions, evaluate, open_engine
from tadisr.evaluation.runner import Runner
from tadisr.evaluation.statistics import Resampler
from tadisr.evaluation.summary import build_report


def record(image, text, bicubic, mine, source=ENGINE, height=20.0, script="latin", other=None):
    """A line's record: what the judge "a" reads on each version; `other`: what "b" reads on (bicubic, mine, hr)."""
    versions = {"bicubic": bicubic, "mine": mine, "hr": text}
    read = {name: {"a": {"text": said, "score": 0.9}} for name, said in versions.items()}
    for name, said in zip(versions, other or (), strict=bool(other)):
        read[name]["b"] = {"text": said, "score": 0.5}
    quad = [[0, 0], [9, 0], [9, 9], [0, 9]]
    return {"image": str(image), "index": 0, "quad": quad, "text": text, "source": source,
            "script": script, "height": height, "read": read}  # fmt: skip


def image(number, bicubic, mine, lpips=(None, None)):
    methods = {
        name: {"psnr": psnr, "ssim": min(psnr, 100) / 100, "lpips": distance}
        for name, psnr, distance in zip(
            ("bicubic", "mine", "hr"), (bicubic, mine, math.inf), (*lpips, 0.0), strict=True
        )
    }
    return {"name": str(number), "hr": f"{number}.png", "size": [8, 8], "methods": methods}


@pytest.fixture
def records():
    return Records(
        images=[image(0, 20.0, 23.0), image(1, 30.0, 31.0)],
        lines=[
            record(0, "abcd", "abxd", "abcd", other=("ab", "abcd", "abcd")),
            record(0, "12", "", "12", height=40.0, script="digits", other=("", "", "")),
            record(1, "二等座", "二等庄", "二等庄", height=64.0, script="chinese", other=("二", "二等座", "二等")),
            record(1, "Exit", "Exit", "Exlt", source=ANNOTATION, other=("Ex", "Exit", "Exit")),
            record(1, "", "x", "", other=("x", "", "")),
        ],
        seconds={"bicubic": 0.5},
    )


def test_means_by_hand(records):
    methods = build_report(records, ["a"])["methods"]
    assert list(methods) == ["bicubic", "mine", "hr"]
    bicubic, mine, hr = methods.values()
    assert bicubic["psnr"] == 25 and mine["psnr"] == 27 and hr["psnr"] is None  # infinite
    assert bicubic["lpips"] is None and hr["lpips"] == 0 and bicubic["fid"] is None
    assert bicubic["ocr_a"] == pytest.approx((6 / 8 + 0 + 4 / 6) / 3, abs=1e-6)
    assert mine["ocr_a"] == pytest.approx((1 + 1 + 4 / 6) / 3, abs=1e-6)
    assert bicubic["ocr_a_levenshtein"] == pytest.approx((7 / 8 + 0 + 5 / 6) / 3, abs=1e-6)
    assert (bicubic["exact"], mine["exact"], hr["exact"]) == pytest.approx((0, 2 / 3, 1), abs=1e-6)
    assert (bicubic["ned"], mine["ned"], bicubic["accuracy"], mine["accuracy"]) == (1, 0.75, 1, 0)
    assert (bicubic["n_images"], bicubic["n_lines"], bicubic["n_annotated"]) == (2, 3, 1)  # the empty line is out
    assert bicubic["seconds"] == 0.5 and hr["seconds"] is None
    assert mine["delta"]["psnr"] == 2 and mine["delta"]["ned"] == -0.25 and bicubic["delta"]["ocr_a"] == 0
    assert hr["delta"]["psnr"] is None


def test_splits_by_hand(records):
    methods = build_report(records, ["a"])["methods"]
    assert methods["bicubic"]["by_script"] == {
        "latin": {"ocr_a": 0.75, "exact": 0, "n": 1},
        "chinese": {"ocr_a": pytest.approx(4 / 6, abs=1e-6), "exact": 0, "n": 1},
        "digits": {"ocr_a": 0, "exact": 0, "n": 1},
    }
    heights = {(part["low"], part["high"]): (part["n"], part["ocr_a"]) for part in methods["mine"]["by_height"]}
    assert heights[16, 24] == (1, 1) and heights[32, 48] == (1, 1) and heights[24, 32] == (0, None)
    assert heights[64, None] == (1, pytest.approx(4 / 6, abs=1e-6))
    assert methods["mine"]["legible_from"] is None  # no class holds enough lines


@pytest.mark.parametrize(
    ("legible", "expected"), [((16, 24, 32, 48), 16), ((24, 48), 48), ((16, 32, 48), 32), ((), None)]
)
def test_the_smallest_legible_height(legible, expected):
    heights = (16, 24, 32, 48)
    lines = [
        record(0, "abcd", "abcd" if h in legible else "wxyz", "", height=float(h)) for h in heights for _ in range(5)
    ]
    lines.append(record(0, "abcd", "", "", height=70.0))  # too few to count
    report = build_report(Records(images=[image(0, 1.0, 1.0)], lines=lines), ["a"])
    assert report["methods"]["bicubic"]["legible_from"] == expected


def test_a_second_opinion_by_hand(records):
    methods = build_report(records, ["a", "b"])["methods"]
    assert methods["bicubic"]["engines"]["b"] == {
        "ocr_a": pytest.approx(
            (4 / 6 + 2 / 3) / 2, abs=1e-6
        ),  # "ab" of "abcd", "二" of "二等"; of "12" it reads nothing
        "ocr_a_levenshtein": pytest.approx((4 / 6 + 2 / 3) / 2, abs=1e-6),
        "exact": 0,
        "ned": 0.5,
        "accuracy": 0,
        "n_lines": 2,
        "n_annotated": 1,
    }
    assert methods["hr"]["engines"]["b"]["ocr_a"] == 1
    assert list(methods["mine"]["engines"]) == ["b"]


def test_normalisation_is_applied():
    lines = [record(0, "Exit 12", "EXIT-12", "exit 12"), record(0, "—", "-", "")]
    made = [build_report(Records([image(0, 1.0, 1.0)], lines), ["a"], rule) for rule in ("none", "alnum")]
    assert [report["methods"]["bicubic"]["exact"] for report in made] == [0, 1]
    assert [report["methods"]["bicubic"]["n_lines"] for report in made] == [2, 1]  # a dash alone is no text then


def test_pairs_of_methods_by_hand(records):
    paired = {(one["a"], one["b"], one["metric"]): one for one in build_report(records, ["a"])["paired"]}
    assert {key[:2] for key in paired} == {("bicubic", "mine")}
    assert {key[2] for key in paired} == {"psnr", "ssim", "ocr_a", "exact", "ned"}
    assert paired["bicubic", "mine", "psnr"]["difference"] == 2 and paired["bicubic", "mine", "psnr"]["n"] == 2
    ocr_a = paired["bicubic", "mine", "ocr_a"]
    assert ocr_a["difference"] == pytest.approx((0.25 + 1 + 0) / 3, abs=1e-6) and ocr_a["n"] == 3
    assert paired["bicubic", "mine", "ned"]["p"] is None  # one image alone


def test_an_image_that_equals_its_hr_has_no_finite_mean():
    images = [image(0, 20.0, math.inf), image(1, 20.0, 30.0)]
    report = build_report(Records(images=images), ["a"])
    assert report["methods"]["mine"]["psnr"] is None and report["methods"]["mine"]["delta"]["psnr"] is None
    assert {one["metric"] for one in report["paired"]} == {"ssim"}
    json.dumps(report, allow_nan=False)


def test_nothing_but_one_image():
    report = build_report(Records(images=[image(0, 20.0, 21.0)]), ["a"])
    row = report["methods"]["mine"]
    assert row["psnr"] == 21 and row["ocr_a"] is None and row["n_lines"] == 0 and row["by_script"] == {}
    assert set(row["intervals"].values()) == {None} and report["paired"][0]["p"] is None


def test_bootstrap_against_the_normal_approximation():
    rng = np.random.default_rng(0)
    values = rng.normal(5, 2, 400)
    low, high = Resampler(400, 0).interval(values, np.ones(400))
    error = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.1 * error)
    assert [low, high] == Resampler(400, 0).interval(values, np.ones(400))
    assert [low, high] != Resampler(400, 1).interval(values, np.ones(400))


def test_bootstrap_keeps_the_lines_of_an_image_together():
    """Ten equal lines in each image say no more than one."""
    values = np.random.default_rng(0).normal(size=50)
    once = Resampler(50, 0).interval(values, np.ones(50))
    assert Resampler(50, 0).interval(10 * values, np.full(50, 10.0)) == pytest.approx(once)
    weighted = Resampler(2, 0).interval(np.array([9.0, 0.0]), np.array([9.0, 1.0]))
    assert weighted == pytest.approx([0, 1])


def test_sign_flips_against_all_of_them():
    differences = np.array([1.0, 2.0, -0.5, 3.0, 0.25, 1.5, -1.0, 0.75])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1)
    exact = np.mean(np.abs(signs.T @ differences) >= differences.sum() - 1e-9)
    assert Resampler(8, 0).p_value(differences, np.ones(8)) == pytest.approx(exact, abs=0.01)
    assert Resampler(8, 0).p_value(np.zeros(8), np.ones(8)) == 1
    assert Resampler(8, 0).p_value(differences, np.eye(8)[0]) is None
    assert Resampler(8, 0).p_value(np.full(8, np.inf), np.ones(8)) is None


def test_sign_flips_are_fair():
    """Where nothing differs but chance, a p below 0.1 comes in a tenth of the cases."""
    rng = np.random.default_rng(0)
    resampler = Resampler(20, 0)
    values = [resampler.p_value(rng.normal(size=20), np.ones(20)) for _ in range(200)]
    assert 0.05 < np.mean(np.array(values) < 0.1) < 0.16


def run(data, out, specs=("lanczos",), **options):
    """A whole evaluation; LPIPS and FID without their weights."""
    methods = load_methods(specs, data, Options())
    return evaluate(data, methods, out, EvaluationOptions(weights=out / "nowhere", **options))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluated")
    data = open_data(write_folder(root / "data"))
    (root / "out").mkdir()
    return root, run(data, root / "out", workers=1)


def test_report_of_a_run(evaluated):
    root, report = evaluated
    assert json.loads((root / "out" / "report.json").read_text(encoding="utf-8")) == json.loads(json.dumps(report))
    assert list(report["methods"]) == ["bicubic", "lanczos", "hr"] and report["judge"] == "rapidocr"
    assert report["engines"]["rapidocr"]["engine"] == "rapidocr"
    assert [one["name"] for one in report["images"]] == ["000", "001", "002"]
    assert [line["text"] for line in report["lines"]] == [text for texts in TEXTS for text in texts]
    assert report["methods"]["hr"]["ocr_a"] > 0.95 and report["methods"]["hr"]["ssim"] == 1
    assert report["methods"]["lanczos"]["n_lines"] == 3 and report["methods"]["lanczos"]["psnr"] > 15
    line = report["lines"][0]
    assert line["script"] == "latin" and 25 < line["height"] < 50 and set(line["read"]) == set(report["methods"])
    assert line["read"]["hr"]["rapidocr"]["score"] > 0.8 and line["ocr_a"]["hr"] > 0.9
    assert [note.split(" is ")[0] for note in report["settings"]["notes"]] == ["LPIPS", "FID"]
    assert (
        report["methods"]["lanczos"]["lpips"] is None
        and report["settings"]["methods"]["lanczos"]["filter"] == "lanczos"
    )
    markdown = (root / "out" / "report.md").read_text(encoding="utf-8")
    assert main_table(report) in markdown == to_markdown(report)
    assert "| bicubic (LR) |" in markdown and "| HR | – | 1.000 |" in markdown
    assert (root / "out" / "report.html").stat().st_size > 1000


def test_restored_images_are_kept(evaluated):
    from PIL import Image

    root, _ = evaluated
    lr = Image.fromarray(reduced(scene(TEXTS[1], 1)[0]))
    np.testing.assert_array_equal(
        Image.open(root / "out" / "images" / "lanczos" / "001.png"), lr.resize((256, 128), Image.Resampling.LANCZOS)
    )
    assert not (root / "out" / "images" / "hr").exists() and not (root / "out" / "masks").exists()


def measured(report):
    """All but the times and what names the folders."""
    rows = {name: {**row, "seconds": None} for name, row in report["methods"].items()}
    return {**report, "methods": rows, "settings": {**report["settings"], "notes": None}}


def test_workers_and_batches_change_nothing(evaluated, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "READ_AT_ONCE", 2)
    report = run(open_data(evaluated[0] / "data"), tmp_path, workers=3, engines=("rapidocr:batch_size=4",))
    assert measured(report) == measured(evaluated[1])


def test_order_changes_nothing(evaluated, tmp_path):
    """More methods, in another order: what is said of each stays the same."""
    report = run(open_data(evaluated[0] / "data"), tmp_path, specs=("nearest", "lanczos"))
    for name, row in measured(evaluated[1])["methods"].items():
        assert measured(report)["methods"][name] == row
    before = [one for one in evaluated[1]["paired"] if one["b"] == "lanczos"]
    assert [one for one in report["paired"] if (one["a"], one["b"]) == ("bicubic", "lanczos")] == before


def test_lines_are_found_where_none_are_given(evaluated, tmp_path):
    """Annotated text leads to NED; what the judge finds in the HR images, to OCR-A."""
    data = open_data(write_ftsr_folders(tmp_path / "data"))
    report = run(data, tmp_path, specs=("tadisr-tiny",))
    sources = [(line["image"][-1], line["source"]) for line in report["lines"]]
    assert sources.count(("0", ENGINE)) == sources.count(("0", ANNOTATION)) == 2 and ("2", ENGINE) not in sources
    found = [line["text"].replace(" ", "") for line in report["lines"] if line["source"] == ENGINE]
    assert found == ["Exit2047", "Northgate", "PLATFORM9"]
    hr = report["methods"]["hr"]
    assert hr["n_lines"] == hr["n_annotated"] == 3 and hr["ocr_a"] > 0.9 and hr["ned"] > 0.8
    mask = report["methods"]["tadisr-tiny"]["mask"]
    assert set(mask) == {"iou", "f", "boundary_f"} and all(0 <= value <= 1 for value in mask.values())
    assert report["methods"]["bicubic"]["mask"] is None
    assert "mask IoU" in main_table(report) and "NED, annotated" in main_table(report)
    assert (tmp_path / "masks" / "tadisr-tiny" / "0000000.png").is_file()


def test_mask_scores_by_hand():
    records = Records(images=[image(0, 1.0, 1.0), image(1, 1.0, 1.0)])
    truth = np.zeros((20, 20), bool)
    truth[5:15, 5:15] = True
    half = truth & (np.arange(20) < 10)
    from tadisr.metrics.segmentation import boundary_f, mask_counts

    records.mask_counts["mine"] = [mask_counts(mask.astype(np.float32), truth) for mask in (half, truth)]
    records.boundary_f["mine"] = [boundary_f(mask, truth) for mask in (half, truth)]
    mask = build_report(records, ["a"])["methods"]["mine"]["mask"]
    assert mask["iou"] == 0.75 and mask["f"] == pytest.approx(2 * 0.75 / 1.75, abs=1e-6)
    assert mask["boundary_f"] == pytest.approx((boundary_f(half, truth) + 1) / 2, abs=1e-6)


def test_no_text_anywhere(tmp_path):
    data = open_data(write_folder(tmp_path / "data", texts=((), ())))
    report = run(data, tmp_path)
    assert report["lines"] == [] and report["methods"]["lanczos"]["ocr_a"] is None
    assert report["settings"]["notes"][-1].startswith("No text was found in the HR images")
    assert "| – |" in main_table(report)


def test_only_the_first_images(evaluated, tmp_path):
    report = run(open_data(evaluated[0] / "data"), tmp_path, limit=1)
    assert report["methods"]["lanczos"]["n_images"] == 1 == len(report["images"])
    assert report["images"] == evaluated[1]["images"][:1] and report["lines"] == evaluated[1]["lines"][:2]
    with pytest.raises(ValueError, match="At least one image is needed, not 0"):
        run(open_data(evaluated[0] / "data"), tmp_path, limit=0)


def test_progress_is_told(evaluated, tmp_path):
    data, told = open_data(evaluated[0] / "data"), []
    methods = load_methods(["lanczos"], data, Options())
    Runner(data, methods, dict([open_engine("rapidocr", 1)]), tmp_path).run(2, lambda *state: told.append(state))
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_unknown_rules_and_engines_are_refused_before_the_work(evaluated, tmp_path):
    data = open_data(evaluated[0] / "data")
    with pytest.raises(ValueError, match="No text normalisation 'lower'"):
        run(data, tmp_path, normalization="lower")
    with pytest.raises(ValueError, match="No OCR engine 'ocrad'"):
        run(data, tmp_path, engines=("rapidocr", "ocrad"))
    with pytest.raises(ValueError, match="The engine rapidocr is named twice"):
        run(data, tmp_path, engines=("rapidocr", "rapidocr:batch_size=2"))
    with pytest.raises(ValueError, match=r"The engine rapidocr:colour=red cannot be opened: .*'colour'"):
        run(data, tmp_path, engines=("rapidocr:colour=red",))
    with pytest.raises(ValueError, match="rapidocr:threads=x cannot be opened: threads must be a number of at least 1"):
        run(data, tmp_path, engines=("rapidocr:threads=x",))
    assert not (tmp_path / "images").exists()


class Shrinking:
    """A method that does not keep the size."""

    name, timed = "shrinking", True

    def __call__(self, lr, name):
        return runner.Restored(lr)

    def describe(self):
        return {}


def test_results_of_another_size_are_refused(evaluated, tmp_path):
    data = open_data(evaluated[0] / "data")
    with pytest.raises(ValueError, match="what shrinking made of it has 64 x 32 pixels and the LR image 000 64 x 32"):
        evaluate(data, [*load_methods([], data, Options()), Shrinking()], tmp_path, EvaluationOptions())


def test_images_that_cannot_be_measured_are_named(tmp_path):
    save(tmp_path / "data" / "hr" / "tiny.png", np.zeros((4, 8, 3), np.uint8))
    save(tmp_path / "data" / "lr" / "tiny.png", np.zeros((1, 2, 3), np.uint8))
    with pytest.raises(ValueError, match=r"hr/tiny.png: SSIM needs at least 7 x 7 pixels"):
        run(open_data(tmp_path / "data"), tmp_path)


def test_boxes_without_area_are_named(tmp_path):
    root = write_folder(tmp_path / "data")
    truth = json.loads((root / "truth.json").read_text())
    for box in ([[5, 5]] * 4, [[0, 0], [9e4, 0], [9e4, 9], [0, 9]]):
        truth[0]["text"][1]["box"] = box
        (root / "truth.json").write_text(json.dumps(truth))
        with pytest.raises(ValueError, match=r"The box .* of 'North gate' in image 000 has no area, or lies outside"):
            open_data(root)
