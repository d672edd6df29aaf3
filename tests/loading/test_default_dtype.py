"""A load that fails leaves the process as it was: a server goes on with its other models."""

import json

import pytest
import torch

from helpers import tiny
from tadisr import TADiSRPipeline
from tadisr.models.prompt import TextPrompt
from tadisr.models.weights import load_network


def test_a_failed_load_leaves_torch_s_default_type(tmp_path):
    tiny.lean().save_pretrained(tmp_path)
    for part in ("vae", "prompt"):  # diffusers reads the class's name after it has changed the type
        path = tmp_path / part / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": {}}))
    with pytest.raises(ValueError, match="_class_name"):
        TADiSRPipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert torch.get_default_dtype() == torch.float32
    with pytest.raises(ValueError, match="_class_name"):
        load_network(TextPrompt, tmp_path / "prompt", dtype=torch.bfloat16)
    assert torch.get_default_dtype() == torch.float32
