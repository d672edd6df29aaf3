"""diffusers' own tests of a pipeline, from a checkout of its repository: its wheel has none.

    git clone --depth 1 https://github.com/huggingface/diffusers
    DIFFUSERS_SOURCE=diffusers pytest tests/pipelines/test_diffusers_mixin.py

Take a version of the checkout that runs with the installed diffusers. Some of the tests need a GPU.
"""

import importlib.util
import os
import sys
import unittest
from pathlib import Path

import pytest

from helpers import tiny
from tadisr import TADiSRPipeline

SOURCE = os.environ.get("DIFFUSERS_SOURCE")
if not SOURCE:
    pytest.skip("DIFFUSERS_SOURCE names no checkout of diffusers", allow_module_level=True)


def diffusers_tests():
    """The module with the mixins. Its package is called `tests`, as ours may be, so it gets another name."""
    folder = Path(SOURCE).resolve() / "tests"
    spec = importlib.util.spec_from_file_location("diffusers_tests", folder / "__init__.py")
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
    return importlib.import_module("diffusers_tests.pipelines.test_pipelines_common")


common = diffusers_tests()


class TADiSRPipelineTests(common.PipelineLatentTesterMixin, common.PipelineTesterMixin, unittest.TestCase):
    pipeline_class = TADiSRPipeline
    params = frozenset(["image"])
    batch_params = frozenset(["image"])
    image_params = frozenset(["image"])
    image_latents_params = frozenset()
    required_optional_params = frozenset(["generator", "output_type", "return_dict"])

    def get_dummy_components(self):
        return dict(tiny.lean().components)

    def get_dummy_inputs(self, device, seed=0):
        generator = self.get_generator(seed)
        return {"image": tiny.photo(16, 16, seed), "generator": generator, "output_type": "np"}

    def test_inference_batch_single_identical(self):
        # One step always: there is no num_inference_steps to copy.
        self._test_inference_batch_single_identical(batch_size=3, additional_params_copy_to_batched_inputs=[])

    @unittest.skip("Of the two optional components, unet and transformer, a pipeline has exactly one")
    def test_save_load_optional_components(self):
        pass

    @unittest.skip("The joint decoder is wired to the blocks of its own VAE")
    def test_multi_vae(self):
        pass
