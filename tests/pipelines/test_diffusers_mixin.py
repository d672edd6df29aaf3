"""diffusers' own tests of a pipeline, from a copy of its repository: its wheel has none.

    git clone --branch v0.40.0 --depth 1 https://github.com/huggingface/diffusers
    pip install parameterized requests requests-mock
    DIFFUSERS_SOURCE=diffusers pytest tests/pipelines/test_diffusers_mixin.py

Tests of offloading, of moving and of float16 skip themselves without a GPU; with one, add `-m gpu`. Those that cannot
apply are skipped here, each with its reason.
"""

import importlib.util
import os
import sys
import tempfile
import unittest
from pathlib import Path

import pytest

from helpers import tiny, tiny_textdiff
from tadisr import TADiSRPipeline, TextDiffPipeline

SOURCE = os.environ.get("DIFFUSERS_SOURCE")
if not SOURCE:
    pytest.skip("DIFFUSERS_SOURCE names no copy of diffusers' repository", allow_module_level=True)


def diffusers_tests():
    """The module with the mixins. Its package is called `tests`, as ours may be, so it gets another name."""
    folder = Path(SOURCE).resolve() / "tests"
    spec = importlib.util.spec_from_file_location("diffusers_tests", folder / "__init__.py")
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
    return importlib.import_module("diffusers_tests.pipelines.test_pipelines_common")


common = diffusers_tests()
pytestmark = [pytest.mark.gpu] if common.torch_device != "cpu" else []


class Common(common.PipelineLatentTesterMixin, common.PipelineTesterMixin):
    params = frozenset(["image"])
    batch_params = frozenset(["image"])
    image_params = frozenset(["image"])
    image_latents_params = frozenset()
    required_optional_params = frozenset(["generator", "output_type", "return_dict"])
    copied = ()

    def get_dummy_inputs(self, device, seed=0):
        return {"image": tiny.photo(16, 16, seed), "generator": self.get_generator(seed), "output_type": "np"}

    def test_inference_batch_single_identical(self):
        # Else it also copies num_inference_steps, which TADiSR has not: it takes one step.
        self._test_inference_batch_single_identical(3, additional_params_copy_to_batched_inputs=self.copied)


class TADiSROnABase(Common, unittest.TestCase):
    """On SD 1.5's class: diffusers' own U-Net and VAE."""

    pipeline_class = TADiSRPipeline

    def get_dummy_components(self):
        with tempfile.TemporaryDirectory() as folder:
            return dict(tiny.on_base(tiny.sd(Path(folder)), lora=False).components)

    @unittest.skip("It takes both optional components away: of unet and transformer a pipeline has exactly one")
    def test_save_load_optional_components(self):
        pass

    @unittest.skip("It exchanges the VAE: the joint decoder is wired to its own VAE's blocks")
    def test_multi_vae(self):
        pass


class TADiSRFromScratch(TADiSROnABase):
    """As tadisr-tiny."""

    def get_dummy_components(self):
        return dict(tiny.lean().components)

    @unittest.skip("It loads float16, which a network without normalisation outgrows, and which is refused")
    def test_dtype_alias(self):
        pass

    test_dtype_dict = test_float16_inference = test_save_load_float16 = test_dtype_alias


class TextDiff(Common, unittest.TestCase):
    pipeline_class = TextDiffPipeline
    required_optional_params = Common.required_optional_params | {"num_inference_steps"}
    copied = ("num_inference_steps",)

    def get_dummy_components(self):
        return dict(tiny_textdiff.textdiff().components)

    def get_dummy_inputs(self, device, seed=0):
        return super().get_dummy_inputs(device, seed) | {"num_inference_steps": 2}

    @unittest.skip("It has no VAE")
    def test_multi_vae(self):
        pass
