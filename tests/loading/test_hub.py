"""Up to the (local) Hub and down again, by the real client in fresh processes."""

import json
import re

import pytest
import yaml

from helpers import tiny
from helpers.hub_server import HubServer

COMMON = """
import hashlib, json, sys
import torch
from huggingface_hub import HfApi
from tadisr import TADiSRPipeline, TextDiffPipeline

PHOTO = torch.linspace(0, 1, 3 * 17 * 24).reshape(1, 3, 17, 24)

def digest(pipe):
    assert type(pipe).__name__ == "TADiSRPipeline"
    images, masks = pipe(PHOTO, output_type="pt", return_dict=False)
    return [hashlib.sha256(x[0].numpy().tobytes()).hexdigest() for x in (images, masks)]
"""

PUSH = """
folder = sys.argv[1]
api = HfApi()
api.create_repo("tester/base")
revision = api.upload_folder(repo_id="tester/base", folder_path=f"{folder}/base").oid
whole = TADiSRPipeline.from_pretrained(f"{folder}/whole")
whole.push_to_hub("tester/whole")
adapter = TADiSRPipeline.from_pretrained(f"{folder}/adapter")
adapter.register_to_config(base_model="tester/base", base_revision=revision)
adapter.push_to_hub("tester/adapter")
lines = TextDiffPipeline.from_pretrained("textdiff-tiny")
lines.save_pretrained(f"{folder}/lines", push_to_hub=True, repo_id="tester/lines")
# What somebody wrote into a card stays.
api.create_repo("tester/described")
card = b"---\\nlicense: mit\\n---\\nmine"
api.upload_file(repo_id="tester/described", path_or_fileobj=card, path_in_repo="README.md")
lines.save_pretrained(f"{folder}/described", push_to_hub=True, repo_id="tester/described")
lines.push_to_hub("tester/described")
# The base's main branch moves on: other weights.
api.delete_folder("unet", "tester/base")
result = {"revision": revision, "whole": digest(whole), "adapter": digest(adapter)}
result["files"] = {name: api.list_repo_files(f"tester/{name}") for name in ("whole", "adapter")}
print(json.dumps(result))
"""

PULL = """
result = {name: digest(TADiSRPipeline.from_pretrained(f"tester/{name}")) for name in ("whole", "adapter")}
again = TADiSRPipeline.from_pretrained("tester/adapter", local_files_only=True)
result["offline"] = digest(again)
result["base"] = [again.config.base_model, again.config.base_revision]
for name in ("missing", "base"):
    try:
        TADiSRPipeline.from_pretrained(f"tester/{name}")
    except Exception as error:
        result[name if name == "missing" else "refused"] = f"{type(error).__name__}: {error}"
print(json.dumps(result))
"""

# In a process of its own, in a cache where nothing is: what a reader of the card does, who has no more than that.
PLAIN = """
import os, re, subprocess
from diffusers import DiffusionPipeline
from huggingface_hub import ModelCard, hf_hub_download
from PIL import Image
NAMES = ("whole", "adapter", "lines")
result = {"cards": {name: ModelCard.load(f"tester/{name}").content for name in NAMES}}
result["described"] = ModelCard.load("tester/described").content
for name in NAMES:
    try:
        DiffusionPipeline.from_pretrained(f"tester/{name}")
    except ValueError as error:
        result[f"{name} untrusted"] = str(error)
for name in ("whole", "adapter"):
    result[name] = digest(DiffusionPipeline.from_pretrained(f"tester/{name}", trust_remote_code=True))
offline = DiffusionPipeline.from_pretrained("tester/adapter", trust_remote_code=True, local_files_only=True)
result["offline"] = digest(offline)
Image.new("RGB", (24, 16), "gray").save("photo.png")
Image.new("RGB", (24, 16), "gray").save("line.png")
for name, card in result["cards"].items():
    snippets = re.findall("```python\\n(.*?)```", card, re.DOTALL)
    for i, snippet in enumerate(snippets):
        exec(snippet, {})
        os.rename("sharp.png", f"{name}{i}.png")
for name in ("whole", "adapter"):
    hf = [sys.executable, "-c", "from huggingface_hub.cli.hf import main; main()"]
    subprocess.run([*hf, "download", f"tester/{name}", "--local-dir", name], check=True, capture_output=True)
    result[f"{name} in a folder"] = digest(TADiSRPipeline.from_pretrained(name))
    plain = DiffusionPipeline.from_pretrained(name, trust_remote_code=True)
    result[f"{name} in a folder, plain"] = digest(plain)
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def exchange(tmp_path_factory):
    """(What the pushing process printed, what the pulling ones printed, the paths that one fetched of the base)."""
    folder = tmp_path_factory.mktemp("local")
    base = tiny.sd(folder)
    base.save_pretrained(folder / "base", variant="fp16")
    base.save_pretrained(folder / "base")
    tiny.lean().save_pretrained(folder / "whole")
    tiny.on_base(base, base_model=str(folder / "base")).save_pretrained(folder / "adapter")
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        pushed = json.loads(server.run(COMMON + PUSH, folder).splitlines()[-1])
        server.requests.clear()
        fresh = tmp_path_factory.mktemp("home")
        pulled = json.loads(server.run(COMMON + PULL, home=fresh).splitlines()[-1])
        fetched = {m[1] for m in (re.search("/tester/base/resolve/(.*)", r) for r in server.requests) if m}
        place = tmp_path_factory.mktemp("reader")
        code = f"import os; os.chdir({str(place)!r})\n{COMMON}{PLAIN}"
        pulled["plain"] = json.loads(server.run(code, home=place / "home").splitlines()[-1])
        pulled["pictures"] = sorted(path.name for path in place.glob("*[0-9].png"))
    return pushed, pulled, fetched


def test_plain_diffusers_takes_them_from_the_hub(exchange):
    pushed, plain = exchange[0], exchange[1]["plain"]
    for name in ("whole", "adapter"):
        assert pushed[name] == plain[name] == plain[f"{name} in a folder"] == plain[f"{name} in a folder, plain"]
    assert plain["offline"] == pushed["adapter"]
    assert all("trust_remote_code=True" in plain[f"{name} untrusted"] for name in ("whole", "adapter", "lines"))


def test_the_cards_say_what_works(exchange):
    """Every snippet has been run, and has written a picture."""
    cards = exchange[1]["plain"]["cards"]
    assert exchange[1]["pictures"] == [f"{name}{i}.png" for name in ("adapter", "lines", "whole") for i in (0, 1)]
    fronts = {name: yaml.safe_load(card.split("---")[1]) for name, card in cards.items()}
    for front in fronts.values():
        assert (front["library_name"], front["pipeline_tag"]) == ("diffusers", "image-to-image")
        assert "lora" not in front["tags"], "the Hub would show load_lora_weights"
    assert (fronts["adapter"]["base_model"], fronts["adapter"]["base_model_relation"]) == ("tester/base", "adapter")
    assert fronts["lines"]["license"] == "apache-2.0", "that of the weights it was loaded from"
    assert exchange[1]["plain"]["described"] == "---\nlicense: mit\n---\nmine"
    assert "base_model" not in fronts["whole"] and "license" not in fronts["whole"]


def test_the_same_output_before_and_after(exchange):
    pushed, pulled, _ = exchange
    assert pulled["whole"] == pushed["whole"]
    assert pulled["adapter"] == pulled["offline"] == pushed["adapter"]
    assert pushed["whole"] != pushed["adapter"]


def test_of_the_base_only_what_is_needed_is_taken_at_its_revision(exchange):
    pushed, pulled, fetched = exchange
    assert pulled["base"] == ["tester/base", pushed["revision"]]
    paths = {path.split("/", 1)[1] for path in fetched if path.startswith(pushed["revision"])}
    assert {path.split("/")[0] for path in paths} == {"model_index.json", "vae", "unet", "scheduler"}
    weights = {path for path in paths if path.endswith(".safetensors")}
    assert weights == {f"{part}/diffusion_pytorch_model.safetensors" for part in ("vae", "unet")}, "no fp16 beside it"


def test_what_is_in_the_repositories(exchange):
    whole, adapter = (set(exchange[0]["files"][name]) for name in ("whole", "adapter"))
    assert {"README.md", "model_index.json", "unet/diffusion_pytorch_model.safetensors"} <= whole
    assert {"README.md", "tadisr_adapter.json", "unet_lora/pytorch_lora_weights.safetensors"} <= adapter
    assert not [name for name in whole | adapter if name.endswith((".bin", ".pkl", ".pt"))]
    assert not [name for name in adapter if name.startswith(("unet/", "vae/", "text_encoder"))]


def test_a_repository_that_is_not_there(exchange):
    assert exchange[1]["missing"].startswith("RepositoryNotFoundError")


def test_another_pipeline_is_refused_before_its_weights_are_fetched(exchange):
    pushed, pulled, fetched = exchange
    assert "ValueError" in pulled["refused"] and "StableDiffusion" in pulled["refused"]
    assert {path.split("/", 1)[1] for path in fetched if not path.startswith(pushed["revision"])} == {
        "model_index.json"
    }
