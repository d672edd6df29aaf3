import pytest


@pytest.fixture(scope="session", params=["sd", "sdxl", "kolors"])
def base(request, tmp_path_factory):
    """A base pipeline of each family; shared, so copy what you change."""
    import tiny  # slow: other tests need no diffusers

    return tiny.FAMILIES[request.param](tmp_path_factory.mktemp(request.param))
