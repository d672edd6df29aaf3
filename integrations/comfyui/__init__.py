"""ComfyUI loads this folder from `custom_nodes`. The node itself is a part of the package tadisr."""

from tadisr.apps.comfyui import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
