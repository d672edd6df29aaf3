from tadisr.io.hashing import hashes, sha256

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2


def test_known_answers(tmp_path):
    file = tmp_path / "sub" / "a.bin"
    file.parent.mkdir()
    file.write_bytes(b"abc")
    assert sha256(file) == sha256(b"abc") == ABC
    assert hashes([file], tmp_path) == {"sub/a.bin": ABC} and hashes([file]) == {"a.bin": ABC}
