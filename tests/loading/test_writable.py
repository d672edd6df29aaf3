"""Where nothing can be uploaded, the commands say so in one line before they begin; by the real client."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.hub_server import HubServer
from helpers.official_checkpoints import SMALL, random_checkpoint, saved

OPEN = """
import sys
from tadisr.loading.hub import writable_repository
for name in sys.argv[1:]:
    try:
        print(writable_repository(name))
    except ValueError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A Hub with a repository of somebody else."""
    theirs = tmp_path_factory.mktemp("theirs")
    (theirs / "README.md").write_text("Not yours.\n")
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        server.publish("other/sharp", theirs)
        yield server


def opened(server, *names, token: str | None = None) -> list[str]:
    environment = {**os.environ, **server.environment()} | ({} if token is None else {"HF_TOKEN": token})
    command = [sys.executable, "-c", OPEN, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_one_of_ours_is_made_and_opened_again(server):
    assert opened(server, "sharp", "tester/sharp") == ["tester/sharp"] * 2


@pytest.mark.parametrize("token", ["", "expired"])
def test_without_a_login(server, token):
    """Also where the repository exists, which the client's `create_repo` is content with."""
    said = "nobody is logged in, or the token has expired: log in with `hf auth login`."
    names = ("tester/new", "other/sharp")
    assert opened(server, *names, token=token) == [f"Nothing can be uploaded to {n} on the Hub: {said}" for n in names]


def test_what_is_not_ours_and_what_is_no_name(server):
    new, existing, odd = opened(server, "other/new", "other/sharp", "not a repository")
    for line, name in ((new, "other/new"), (existing, "other/sharp")):
        assert line.startswith(f"Nothing can be uploaded to {name} on the Hub: the token may not write there: name a")
    assert "not a repository" in odd and "hf auth login" not in odd


def test_a_hub_out_of_reach(tmp_path):
    with HubServer(tmp_path / "hub") as server:
        pass
    (line,) = opened(server, "tester/x")
    assert line.startswith("Nothing can be uploaded to tester/x on the Hub: it cannot be reached (")
    assert line.endswith("): check the network.")


@pytest.mark.parametrize("command", ["convert", "synthesize"])
def test_the_commands_write_nothing(server, tmp_path, command):
    saved(random_checkpoint(SMALL[1]), tmp_path / "official.pkl")
    arguments = {
        "convert": ["convert", "official.pkl", "-o", "out", "--push-to-hub", "other/sharp"],
        "synthesize": ["synthesize", "-o", "out", "--num", "1", "--push-to-hub", "other/sharp"],
    }[command]
    environment = {**os.environ, **server.environment()}
    done = subprocess.run(
        [sys.executable, "-m", "tadisr", *arguments], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "Nothing can be uploaded to other/sharp" in done.stderr and not Path(tmp_path / "out").exists()
