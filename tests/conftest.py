import pytest
import tiny


@pytest.fixture(scope="session", params=tiny.FAMILIES)
def base(request, tmp_path_factory):
    """A base pipeline of each family; shared, so copy what you change."""
    return tiny.FAMILIES[request.param](tmp_path_factory.mktemp(request.param))
