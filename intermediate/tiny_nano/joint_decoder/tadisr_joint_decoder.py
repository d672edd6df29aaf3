"""JointSegmentationDecoder for diffusers, which runs this file in `from_pretrained(..., trust_remote_code=True)`."""

from importlib.util import find_spec

if find_spec("tadisr") is None:
    raise ImportError("This model needs the package tadisr: pip install tadisr")

from tadisr.models.joint_decoder import JointSegmentationDecoder  # noqa: E402, F401
