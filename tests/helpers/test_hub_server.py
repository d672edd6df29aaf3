"""The local Hub, driven by the real `huggingface_hub` client."""

import json
from pathlib import Path

import numpy
import pytest
import safetensors.numpy

from helpers.hub_server import HubServer

PUSH = """
import json, sys
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard

api, repo, folder = HfApi(), "tester/toy", sys.argv[1]
assert api.whoami()["name"] == "tester"
assert api.create_repo("toy").repo_id == api.create_repo(repo, exist_ok=True).repo_id == repo
first = api.upload_folder(repo_id=repo, folder_path=folder).oid
again = api.upload_folder(repo_id=repo, folder_path=folder).oid
ModelCard("---\\nlicense: apache-2.0\\n---\\nA card.").push_to_hub(repo)
changes = [CommitOperationAdd("config.json", b"{}"), CommitOperationDelete("notes/naïve name.txt")]
last = api.create_commit(repo, changes, commit_message="change").oid
print(json.dumps([first, again, last, api.model_info(repo).sha, api.model_info(repo, revision=first[:8]).sha]))
"""

DOWNLOAD = """
import json, sys
from huggingface_hub import hf_hub_download, snapshot_download

folders = [snapshot_download("tester/toy", revision=sys.argv[1]), snapshot_download("tester/toy")]
card = open(hf_hub_download("tester/toy", "README.md")).read()
print(json.dumps([*folders, card]))
"""

RESUME = """
import io, sys
from huggingface_hub import hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import get_session

url, whole = hf_hub_url("tester/toy", "model.safetensors"), open(sys.argv[1], "rb").read()
for asked, status, content in [
    ("bytes=1000-1999", 206, whole[1000:2000]),
    (f"bytes={len(whole) - 5}-", 206, whole[-5:]),
    (f"bytes={len(whole)}-", 416, None),
]:
    response = get_session().get(url, headers={"Range": asked})
    assert response.status_code == status and content in (None, response.content), asked
partial = io.BytesIO(whole[:1000])
partial.seek(1000)
http_get(url, partial, resume_size=1000, expected_size=len(whole))
assert partial.getvalue() == whole
"""

FAIL = """
import json
from huggingface_hub import HfApi, hf_hub_download, snapshot_download

api, anonymous, repo = HfApi(), HfApi(token=False), "tester/toy"
api.create_repo("secret", private=True)
new = {"path_or_fileobj": b"x", "path_in_repo": "x", "repo_id": repo}
asks = {
    "missing file": lambda: hf_hub_download(repo, "missing.json"),
    "file of a missing repo": lambda: hf_hub_download("tester/missing", "config.json"),
    "missing repo": lambda: snapshot_download("tester/missing"),
    "missing repo without a user": lambda: snapshot_download("missing"),
    "missing branch": lambda: snapshot_download(repo, revision="v9"),
    "missing commit": lambda: hf_hub_download(repo, "config.json", revision="0" * 40),
    "private repo, no token": lambda: anonymous.model_info("tester/secret"),
    "upload, no token": lambda: anonymous.upload_file(**new),
    "upload to a missing repo": lambda: api.upload_file(**new | {"repo_id": "tester/missing"}),
    "upload after another": lambda: api.upload_file(**new, parent_commit="0" * 40),
    "repo exists": lambda: api.create_repo(repo),
    "unknown request": lambda: api.create_tag(repo, tag="v1"),
}
raised = {}
for name, ask in asks.items():
    try:
        ask()
    except Exception as error:
        raised[name] = [type(error).__name__, getattr(getattr(error, "response", None), "status_code", None)]
print(json.dumps(raised))
"""


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    (folder / "notes").mkdir()
    (folder / "config.json").write_text('{"scale": 4}\n')
    (folder / "notes" / "naïve name.txt").write_text("not ASCII: ≤\n", encoding="utf-8")
    weights = numpy.random.default_rng(0).standard_normal((512, 512), dtype="float32")
    safetensors.numpy.save_file({"weights": weights}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory, source):
    """A server to which `source` was pushed, and then changed."""
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        server.pushed = json.loads(server.run(PUSH, source))
        yield server


def test_push_makes_a_commit_for_each_change(server):
    first, again, last, head, found_by_prefix = server.pushed
    assert first == again == found_by_prefix
    assert first != last == head
    puts = [request for request in server.requests if request.startswith("PUT")]
    assert len(puts) == 1, "the safetensors file, once, by LFS"


def test_snapshots_are_what_was_pushed(server, source, tmp_path):
    expected = contents(source)
    with HubServer(server.folder) as reopened:
        first, last, card = json.loads(reopened.run(DOWNLOAD, server.pushed[0], home=tmp_path))
    old, new = contents(first), contents(last)
    assert old.pop(".gitattributes") == new.pop(".gitattributes")
    assert old == expected
    assert new.pop("README.md").decode() == card
    assert new == {"config.json": b"{}", "model.safetensors": expected["model.safetensors"]}


def test_a_download_resumes(server, source):
    server.run(RESUME, source / "model.safetensors")


def test_errors_are_the_clients_own(server, tmp_path):
    assert json.loads(server.run(FAIL, home=tmp_path)) == {
        "missing file": ["RemoteEntryNotFoundError", 404],
        "file of a missing repo": ["RepositoryNotFoundError", 404],
        "missing repo": ["RepositoryNotFoundError", 404],
        "missing repo without a user": ["RepositoryNotFoundError", 404],
        "missing branch": ["RevisionNotFoundError", 404],
        "missing commit": ["RevisionNotFoundError", 404],
        "private repo, no token": ["RepositoryNotFoundError", 404],
        "upload, no token": ["HfHubHTTPError", 401],
        "upload to a missing repo": ["RepositoryNotFoundError", 404],
        "upload after another": ["HfHubHTTPError", 412],
        "repo exists": ["HfHubHTTPError", 409],
        "unknown request": ["HfHubHTTPError", 501],
    }
