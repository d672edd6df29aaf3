"""TADiSR without PyTorch: a pipeline as one ONNX file, and what runs it."""
