"""Functions that tests run in other processes, which can import this module but not a test module."""

import os

from tadisr.data_synthesis.sources import Pair


def square(x):
    return x * x


def threads(_):
    import cv2
    import torch

    return cv2.getNumThreads(), torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]


def refuse(x):
    raise ValueError(f"no {x}")


def die(x):
    os._exit(9)


def read_first(source):
    """The first sample's name, and the sum of its pixels."""
    sample = source[0]
    return sample.name, (sample.hr if isinstance(sample, Pair) else sample).image.sum()
