"""A recogniser's ONNX graph as a loss: the same function after merging, and a gradient that reads."""

import shutil
from itertools import groupby

import numpy as np
import pytest
import torch

from helpers import pages
from helpers import training_runs as runs
from helpers.reader_graph import CLASSES, write_graph
from tadisr.training.recognizer import recognizer_loss
from tadisr.training.recognizer.onnx_graph import alphabet, load_onnx, save_adapted, with_features
from tadisr.training.recognizer.recognizer_loss import (
    RecognizerLoss,
    cut_lines,
    encoded,
    likelihood,
    perturbed,
    reading,
    shifted,
)

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def graph(tmp_path):
    return write_graph(tmp_path / "recogniser.onnx", np.random.default_rng(0))


@pytest.mark.filterwarnings("ignore::UserWarning")  # onnx2torch's own
def test_merged_graph_is_the_same_function(graph):
    module = load_onnx(graph)
    x = np.random.default_rng(1).uniform(-1, 1, (2, 3, 48, 80)).astype(np.float32)
    (wanted,) = onnxruntime.InferenceSession(graph).run(None, {"x": x})
    torch.testing.assert_close(module(torch.from_numpy(x)), torch.from_numpy(wanted), rtol=1e-4, atol=1e-6)
    names = [node.name for node in module.graph.nodes if node.op.startswith("call")]
    kinds = [str(node.target) if node.op == "call_function" else type(module.get_submodule(node.target)).__name__
             for node in module.graph.nodes if node.op.startswith("call")]  # fmt: skip
    assert kinds.count("OnnxBinaryMathOperation") == 1 and kinds.count("Conv2d") == 5, names
    assert sum("hardswish" in kind for kind in kinds) == 4 and sum("hardsigmoid" in kind for kind in kinds) == 1
    assert sum("method add" in kind for kind in kinds) == 2  # before the convolution that pads, and the hard swish


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_loss_is_least_for_the_hr_line_itself_and_its_gradient_leads_there(graph):
    loss = RecognizerLoss([graph], perturb=False)
    loss.models[0].register_forward_hook(lambda module, inputs, output: output**4 / (output**4).sum(-1, keepdim=True))
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(3, 3, 32, 64, generator=generator) * 2 - 1
    boxes = torch.tensor([[2, 30, 0, 64], [0, 32, 5, 40], [4, 20, 1, 9]])
    assert cut_lines(target, boxes).shape == (3, 3, 48, 112)  # the widest, in whole steps
    image = (target + 0.4 * torch.randn(target.shape, generator=generator)).requires_grad_()
    before = loss(image, target, boxes)["recognizer"]
    (gradient,) = torch.autograd.grad(before, image)
    after = loss((image - 0.02 * gradient / gradient.abs().amax()).detach(), target, boxes)["recognizer"]
    assert loss(target, target, boxes)["recognizer"] < after < before
    assert gradient[2, :, 4:20, 1:9].abs().sum() > 0 and gradient[2, :, :4].abs().sum() == 0  # only inside its box


def test_likelihood_counts_every_way_to_spell_a_text():
    readings = torch.rand(4, 3, 4, generator=torch.Generator().manual_seed(0)).softmax(-1).requires_grad_()
    found = likelihood(readings, [[1], [1, 2], [2, 2], []])
    (a, b, c, _), blank = readings.unbind(), 0
    one = sum(
        a[0, i] * a[1, j] * a[2, k]
        for i, j, k in [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 1, 1)]
    )  # fmt: skip
    two = sum(b[0, i] * b[1, j] * b[2, k] for i, j, k in [(1, 2, 0), (1, 0, 2), (0, 1, 2), (1, 1, 2), (1, 2, 2)])
    same = c[0, 2] * c[1, blank] * c[2, 2]
    torch.testing.assert_close(found, torch.stack([one, two.sqrt(), same.sqrt(), torch.zeros(())]))
    (gradient,) = torch.autograd.grad(found.sum(), readings)
    assert gradient.isfinite().all() and not gradient[3].any()


def test_an_impossible_text_has_a_finite_gradient():
    readings = torch.zeros(1, 300, 4)
    readings[..., 3] = 1.0
    readings.requires_grad_()
    (gradient,) = torch.autograd.grad(recognizer_loss.bounded(likelihood(readings, [[1]])).sum(), readings)
    assert gradient.isfinite().all()


def test_texts_are_spelled_by_the_recognisers_own_characters(graph, tmp_path):
    known = alphabet(graph)
    assert known == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, " ": 6}
    assert encoded(["ad", " e b ", "ax", "", "cc"], known, 3) == [[1, 4], [5, 6, 2], [], [], [3, 3]]
    assert encoded(["ad", "add", "abc", "cc"], known, 2) == [[1, 4], [], [], []]  # "cc" takes a blank between
    save_adapted(load_onnx(graph), graph, adapted := tmp_path / "adapted.safetensors")
    assert alphabet(adapted) == known
    model = onnx.load(graph)
    del model.metadata_props[:]
    onnx.save(model, nameless := tmp_path / "nameless.onnx")
    with pytest.raises(ValueError, match=r"nameless\.onnx does not name its characters: take one that does"):
        RecognizerLoss([nameless], ctc=True)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_features_are_the_last_high_map_of_a_recogniser(graph):
    plain, lines = load_onnx(graph), torch.rand(2, 3, 48, 80, generator=torch.Generator().manual_seed(0))
    features, output = with_features(plain, 48)(lines)
    assert features.shape == (2, CLASSES, 12, 20) and torch.equal(output, plain(lines))
    (wanted,) = onnxruntime.InferenceSession(graph).run(None, {"x": lines.numpy()})
    torch.testing.assert_close(features.mean(2).transpose(1, 2).softmax(-1), torch.from_numpy(wanted))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_drawn_text_and_features_lead_to_the_hr_line(graph):
    loss = RecognizerLoss([graph], perturb=False, ctc=True, features=True)
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(3, 3, 32, 64, generator=generator) * 2 - 1
    boxes = torch.tensor([[0, 32, 0, 64]]).expand(3, 4)
    steps = loss.models[0](cut_lines(target, boxes))[1][0].argmax(-1).tolist()
    texts = ["".join(" abcde "[number] for number, _ in groupby(steps)), "unknown", ""]
    image = (target + 0.4 * torch.randn(target.shape, generator=generator)).requires_grad_()
    same = loss(target, target, boxes, texts)
    assert same["recognizer_features"] == 0
    for name in ("recognizer_ctc", "recognizer_features"):
        before = loss(image, target, boxes, texts)[name]
        (gradient,) = torch.autograd.grad(before, image)
        after = loss((image - 0.05 * gradient / gradient.abs().amax()).detach(), target, boxes, texts)[name]
        assert 0 < after < before
        assert all(line.any() for line in gradient) == (name == "recognizer_features")
    nothing = loss(image, target, boxes, ["", "x", "?"])["recognizer_ctc"]
    assert nothing == 0 and not torch.autograd.grad(nothing, image)[0].any()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lines_that_the_recogniser_cannot_read_in_hr_weigh_little(graph):
    loss = RecognizerLoss([graph], perturb=False, ctc=True)
    read, unread = torch.zeros(1, 8, CLASSES), torch.zeros(1, 8, CLASSES)
    read[..., 1], unread[..., 4] = 0.99, 0.99  # "a", "d"
    readings = torch.cat([read, unread]) + 0.01 / CLASSES
    loss.models[0].register_forward_hook(lambda module, inputs, output: readings)
    image, boxes = torch.zeros(2, 3, 48, 64), torch.tensor([[0, 48, 0, 64]]).expand(2, 4)
    assert loss(image, image, boxes, ["a", "a"])["recognizer_ctc"] < 0.1
    assert loss(image, image, boxes, ["a", "d"])["recognizer_ctc"] < 0.1
    readings = torch.cat([unread, unread]) + 0.01 / CLASSES
    assert loss(image, image, boxes, ["d", "a"])["recognizer_ctc"] < 0.1


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lines_are_noised_and_what_pads_them_is_not(graph):
    loss, seen = RecognizerLoss([graph], ctc=True), []
    loss.models[0].register_forward_pre_hook(lambda module, inputs: seen.append(*inputs))
    image = torch.rand(2, 3, 32, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.manual_seed(0)
    loss(image, image, torch.tensor([[0, 32, 0, 96], [0, 32, 0, 40]]), ["", ""])
    clean, noisy = seen
    assert clean.shape == noisy.shape and not torch.equal(clean[0], noisy[0])
    padding = (clean[1] == 0).all(0).all(0)
    assert 0 < padding.sum() < clean.shape[-1] and not noisy[1, ..., padding].any()
    assert noisy[1, ..., ~padding].ne(clean[1, ..., ~padding]).all()


def test_perturbed_lines_differ_each_time_and_little():
    lines = torch.rand(2, 3, 48, 320, generator=torch.Generator().manual_seed(0)).round() * 2 - 1
    smooth = torch.nn.functional.avg_pool2d(lines, 9, 1, 4)
    torch.manual_seed(0)
    made = [perturbed(smooth) for _ in range(20)]
    changes = [float((one - smooth)[..., 4:-4, 4:-4].abs().mean()) for one in made]
    assert len(set(changes)) == 20 and max(changes) < 0.2
    assert not torch.allclose(made[0][0], made[0][1])


def test_shifted_boxes_stay_within_the_image_and_small_ones_stay():
    boxes = torch.tensor([[0, 20, 3, 64], [4, 32, 0, 64], [10, 16, 0, 64]])
    torch.manual_seed(0)
    made = torch.stack([shifted(boxes, (32, 64)) for _ in range(50)])
    assert made.min() == 0 and made[..., 1].max() == 32 and made[..., 3].max() == 64
    assert (made - boxes).abs().max() == 2 and len(made[:, 0].unique(dim=0)) > 20
    assert (made[:, 2] == boxes[2]).all()


def test_stretched_lines_are_wider_and_show_the_same():
    image = torch.linspace(-1, 1, 64).expand(2, 3, 48, 64)
    box = torch.tensor([[0, 48, 0, 64]]).expand(2, 4)
    plain, wide = cut_lines(image, box), cut_lines(image, box, stretch=1.25)
    assert plain.shape[-1] == 64 and wide.shape[-1] == 80
    assert float((wide[0, 0, 0, ::5] - plain[0, 0, 0, ::4]).abs().max()) < 0.02
    long = torch.linspace(-1, 1, 512).expand(1, 3, 48, 512)
    assert cut_lines(long, torch.tensor([[0, 48, 0, 512]]), stretch=1.25)[0, 0, 0, -1] == pytest.approx(0, abs=0.01)


def test_long_lines_are_cut_not_squeezed():
    image = torch.linspace(-1, 1, 512).expand(1, 3, 32, 512)
    (line,) = cut_lines(image, torch.tensor([[0, 24, 0, 512]]))  # 160 of 512 columns fill 320
    assert line[0, 0, -1] == pytest.approx(float(image[0, 0, 0, 159]), abs=0.01)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_each_call_asks_one_of_several_recognisers(graph, tmp_path):
    other = write_graph(tmp_path / "other.onnx", np.random.default_rng(5))
    loss, calls = RecognizerLoss([graph, other], perturb=False), []
    for number, model in enumerate(loss.models):
        model.register_forward_hook(lambda *_, number=number: calls.append(number))
    image = torch.rand(1, 3, 48, 64) * 2 - 1
    torch.manual_seed(0)
    for _ in range(8):
        loss(image, image, torch.tensor([[0, 48, 0, 64]]))
    assert set(calls) == {0, 1} and calls[::2] == calls[1::2]  # the HR and the SR line are read by the same one


def test_a_missing_file_says_where_to_get_it(tmp_path):
    (tmp_path / "notes.md").write_text("# Notes")
    with pytest.raises(ValueError, match=r"notes\.md is no ONNX recogniser: "):
        load_onnx(tmp_path / "notes.md")
    with pytest.raises(FileNotFoundError, match="No recogniser at .*none.onnx: PP-OCR ONNX files come with"):
        RecognizerLoss([tmp_path / "none.onnx"])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_resumed_run_reads_as_an_unbroken_one(graph, tmp_path, monkeypatch):
    """What the loss draws, readers, shifts and noise, depends on the step, not on the run's past."""

    def spelled(texts, *_):  # by the toy's five letters
        return [[ord(char) % 5 + 1 for char in text[:3]] for text in texts]

    def sure(*args):  # of random weights no reading is
        label, _ = reading(*args)
        return label, label.new_ones(label.shape)

    monkeypatch.setattr(recognizer_loss, "reading", sure)
    monkeypatch.setattr(recognizer_loss, "encoded", spelled)
    monkeypatch.setattr(recognizer_loss, "LEAST", 0.3)  # of random weights nothing is likely
    data = pages.data_set(tmp_path / "set", 6, 256, font_size=(18, 32))
    settings = {"recognizer": graph, "recognizer_lines": 2, "recognizer_weight": 10.0, "recognizer_strength": 0.25,
                "recognizer_ctc": 5.0, "recognizer_features": 1.0}  # fmt: skip
    whole = runs.train(data, tmp_path / "whole", **settings)
    shutil.copytree(whole, broken := tmp_path / "broken")
    shutil.rmtree(broken / "checkpoint-6")
    runs.train(data, broken, **settings, resume_from_checkpoint="latest")
    runs.assert_same(whole, broken)
    for name in ("recognizer", "recognizer_ctc", "recognizer_features"):
        assert all(record[name] > 0 for record in runs.records(whole))
