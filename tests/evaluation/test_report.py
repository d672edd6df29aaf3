"""Whole evaluations with a real engine."""

import json

import numpy as np
import pytest

from helpers.evaluation_samples import TEXTS, reduced, save, scene, write_folder, write_ftsr_folders
from tadisr.evaluation import runner
from tadisr.evaluation.markdown import main_table, to_markdown
from tadisr.evaluation.methods import Options, load_methods
from tadisr.evaluation.pairs import ANNOTATION, ENGINE, open_data
from tadisr.evaluation.report import EvaluationOptions, evaluate, open_engine
from tadisr.evaluation.runner import Runner


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
    assert "| bicubic (LR) |" in markdown and "| HR | – | – | – | – | 1.000 |" in markdown
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
