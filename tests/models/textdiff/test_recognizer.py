"""The CRNN against the published network, CTC known answers, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers.textdiff_parts import noise, tiny_crnn
from tadisr.models.textdiff.recognizer import ALPHABET, CRNN, load_public_crnn


def test_the_default_crnn_is_the_public_one():
    with torch.device("meta"):
        model = CRNN()
    assert sum(p.numel() for p in model.parameters()) == 8_331_301
    maps = model.features(torch.empty(2, 1, 32, 100, device="meta"))
    assert [tuple(x.shape[1:]) for x in maps] == [
        (64, 32, 100), (128, 16, 50), (256, 8, 25), (256, 8, 25), (512, 4, 26), (512, 4, 26), (512, 1, 26),
    ]  # fmt: skip
    assert model.classify(maps[-1]).shape == (2, 26, 37)


def public_state(channels=(4, 4, 8, 8, 8, 8, 8), hidden=6, classes=37):
    """A state dict with the public checkpoint's names, written out here, and random values."""
    shapes = {}
    for i, (inputs, outputs) in enumerate(zip((1, *channels), channels, strict=False)):
        side = 2 if i == 6 else 3
        shapes |= {f"cnn.conv{i}.weight": (outputs, inputs, side, side), f"cnn.conv{i}.bias": (outputs,)}
    for i in (2, 4, 6):
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"cnn.batchnorm{i}.{name}"] = (channels[i],)
    for i, (inputs, outputs) in enumerate([(channels[-1], hidden), (hidden, classes)]):
        for end in ("", "_reverse"):
            shapes |= {f"rnn.{i}.rnn.weight_ih_l0{end}": (4 * hidden, inputs)}
            shapes |= {f"rnn.{i}.rnn.weight_hh_l0{end}": (4 * hidden, hidden)}
            shapes |= {f"rnn.{i}.rnn.bias_ih_l0{end}": (4 * hidden,), f"rnn.{i}.rnn.bias_hh_l0{end}": (4 * hidden,)}
        shapes |= {f"rnn.{i}.embedding.weight": (outputs, 2 * hidden), f"rnn.{i}.embedding.bias": (outputs,)}
    return {name: noise(*shape, seed=i).abs() / 4 for i, (name, shape) in enumerate(shapes.items())}


def public_forward(state, x):
    """The published network, layer by layer, from its state dict: gray (N, 1, 32, 100) to logits (26, N, classes)."""
    for i in range(7):
        x = F.conv2d(x, state[f"cnn.conv{i}.weight"], state[f"cnn.conv{i}.bias"], padding=0 if i == 6 else 1)
        if i in (2, 4, 6):
            norm = f"cnn.batchnorm{i}."
            x = F.batch_norm(x, *(state[norm + name] for name in ("running_mean", "running_var", "weight", "bias")))
        x = x.relu()
        if i in (0, 1):
            x = F.max_pool2d(x, 2, 2)
        if i in (3, 5):
            x = F.max_pool2d(x, (2, 2), (2, 1), (0, 1))
    x = x.squeeze(2).permute(2, 0, 1)
    for i in range(2):
        inputs, hidden = state[f"rnn.{i}.rnn.weight_ih_l0"].shape[1], state[f"rnn.{i}.rnn.weight_hh_l0"].shape[1]
        lstm = nn.LSTM(inputs, hidden, bidirectional=True)
        lstm.load_state_dict({name: state[f"rnn.{i}.rnn.{name}"] for name in lstm.state_dict()})
        x = F.linear(lstm(x)[0], state[f"rnn.{i}.embedding.weight"], state[f"rnn.{i}.embedding.bias"])
    return x


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_public_checkpoint_loads_and_reads_the_same(tmp_path, prefix, legacy):
    state = public_state()
    saved = {prefix + name: value for name, value in state.items()}
    if not legacy:
        saved |= {f"{prefix}cnn.batchnorm{i}.num_batches_tracked": torch.tensor(3) for i in (2, 4, 6)}
    torch.save(saved, tmp_path / "crnn.pth", _use_new_zipfile_serialization=not legacy)
    model = load_public_crnn(tmp_path / "crnn.pth")
    assert not model.training and model.config.hidden == 6
    gray = noise(2, 1, 32, 100).sigmoid()
    assert torch.allclose(model(gray), public_forward(state, gray).transpose(0, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("rnn.0.rnn.weight_hh_l0"), "lacks rnn.0.rnn.weight_hh_l0"),
        (lambda s: s.update({"cnn.batchnorm0.weight": torch.ones(4)}), "unknown cnn.batchnorm0.weight"),
        (lambda s: s.update({"cnn.conv3.weight": torch.ones(8, 5, 3, 3)}), r"conv3.weight is \(8, 5, 3, 3\), expected"),
        (
            lambda s: s.update({"cnn.conv3.bias": s["cnn.conv3.bias"].int()}),
            "conv3.bias holds integers, expected floats",
        ),
        (lambda s: s["cnn.conv3.bias"].fill_(float("nan")), "conv3.bias is not finite"),
        (lambda s: s.update({"cnn.conv3.weight": torch.ones(())}), "do not fit together as a CRNN"),
        (lambda s: s.update({"epoch": 3}), "not a state dict of tensors"),
    ],
)
def test_a_checkpoint_of_another_layout_is_refused(tmp_path, change, message):
    state = public_state()
    change(state)
    torch.save(state, tmp_path / "crnn.pth")
    with pytest.raises(ValueError, match=message):
        load_public_crnn(tmp_path / "crnn.pth")


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="No CRNN checkpoint"):
        load_public_crnn(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("a text")
    with pytest.raises(ValueError, match="is no PyTorch checkpoint, or damaged"):
        load_public_crnn(tmp_path / "text.pth")
    torch.save(tiny_crnn(), tmp_path / "pickled.pth")  # a whole model: loading it would run what it says
    with pytest.raises(ValueError, match="would call tadisr.models.textdiff.recognizer.CRNN when loaded"):
        load_public_crnn(tmp_path / "pickled.pth")


def test_prepare_is_tatts_gray():
    crnn, images = tiny_crnn(), noise(2, 3, 16, 64).sigmoid()
    red, green, blue = F.interpolate(images, (32, 100), mode="bicubic").unbind(1)
    expected = 0.299 * red + 0.587 * green + 0.114 * blue
    assert torch.allclose(crnn.prepare(images), expected[:, None], atol=1e-6)
    dot = crnn.prepare(images[..., :1, :1])
    assert torch.allclose(dot, dot[..., :1, :1].expand(2, 1, 32, 100))


def test_prepare_does_not_alias_large_crops():
    stripes = torch.zeros(1, 3, 96, 300)
    stripes[..., ::2] = 1
    assert (tiny_crnn().prepare(stripes)[..., 4:-4] - 0.5).abs().max() < 0.05


def test_reading_is_differentiable_to_the_image():
    crnn, images = tiny_crnn().eval(), noise(1, 3, 16, 64).sigmoid().requires_grad_()
    crnn(crnn.prepare(images)).sum().backward()
    assert (images.grad.abs().sum((0, 1)) > 0).all()


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ([0, 0, 0], ""),
        ([18, 18, 15, 22, 0, 22, 22, 25, 0], "hello"),
        ([1, 10, 0, 10, 36], "099z"),
        ([0, 36, 36, 0, 0, 36, 11], "zza"),
    ],
)
def test_ctc_decoding(steps, text):
    logits = F.one_hot(torch.tensor([steps, [0] * len(steps)]), 37).float()
    assert CRNN.decode(logits) == [text, ""]


def test_ctc_decoding_inverts_any_label():
    @settings(deadline=None, max_examples=25)
    @given(st.text(ALPHABET, max_size=12))
    def check(label):
        steps = [step for character in label for step in (0, ALPHABET.index(character) + 1)]
        assert CRNN.decode(F.one_hot(torch.tensor([[*steps, 0]]), 37)) == [label]

    check()


def test_what_is_read_is_what_is_decoded():
    crnn, images = tiny_crnn().eval(), noise(3, 3, 9, 31).sigmoid()
    assert crnn.read(images) == CRNN.decode(crnn(crnn.prepare(images)))


def test_the_crnn_learns_to_read_two_words():
    """CTC training on two images: the gradient path from characters back to pixels works."""
    crnn = tiny_crnn(channels=(8, 8, 16, 16, 16, 16, 16), hidden=16)
    images = noise(2, 3, 16, 64).sigmoid()
    labels = torch.tensor([[11, 12], [36, 1]])  # "ab", "z0"
    optimizer = torch.optim.Adam(crnn.parameters(), 1e-2)
    for _ in range(110):
        log_probs = crnn(crnn.prepare(images)).log_softmax(-1).transpose(0, 1)
        loss = F.ctc_loss(log_probs, labels, torch.tensor([26, 26]), torch.tensor([2, 2]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert crnn.read(images) == ["ab", "z0"]


def test_crnn_refuses_what_it_cannot_read():
    crnn = tiny_crnn()
    for shape in ((0, 3, 16, 64), (2, 1, 16, 64), (3, 16, 64), (1, 3, 0, 64)):
        with pytest.raises(ValueError, match="Expected RGB images"):
            crnn.prepare(torch.zeros(shape))
    with pytest.raises(ValueError, match="Expected gray images"):
        crnn(torch.zeros(1, 1, 48, 100))
    with pytest.raises(ValueError, match="Expected .*37"):
        CRNN.decode(torch.zeros(1, 26, 63))
    with pytest.raises(ValueError, match="seven convolutions"):
        CRNN(channels=(4, 4))
