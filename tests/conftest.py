import os
import signal

import pytest

# The tests run side by side: a thread per core in each of them would only make them wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config):
    """GPUs have their own tests, `-m gpu`: the others compare to the bit, which only a CPU's arithmetic allows."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session", params=["sd", "sdxl", "kolors"])
def base(request, tmp_path_factory):
    """A base pipeline of each family; shared, so copy what you change."""
    from helpers import tiny  # slow: other tests need no diffusers

    return tiny.FAMILIES[request.param](tmp_path_factory.mktemp(request.param))


# A shell's background jobs ignore Ctrl-C, and so would the processes that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
