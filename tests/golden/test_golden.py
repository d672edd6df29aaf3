"""What comes out is what came out when the files beside this were recorded.

The rule: a result holds where its hash is the recorded one. Where a library or the processor differs from the
recording's, a result also holds whose tolerant form (means of an image's parts, norms of weights, a log's numbers) is
the recorded one within its tolerance. Where all libraries and the processor are the recording's, nothing but the hash
counts.

Every section is made in a process of its own, whose environment pins the instruction set (see `record.PINNED`). Every
section has a test file of its own, so that several workers share them. This file tests the comparison.

A test that fails there says that behaviour has changed. If it was meant to, `python tests/golden/record.py SECTION`
records it anew; the reason belongs in the commit.
"""

import pytest
from golden import record


def test_every_section_has_a_test():
    for section in record.SECTIONS:
        assert f'assert_as_recorded("{section}")' in (record.FOLDER / f"test_{section}.py").read_text()


class TestTheComparison:
    ITEM = {"sha256": "a", "tolerance": 0.1, "tolerant": {"x": [1.0, "t"]}}

    def recording(self, **changes):
        return {"environment": {**record.environment(), **changes}, "items": {"r": self.ITEM}}

    def test_the_same_versions_and_processor_need_the_same_hash(self):
        assert not record.compare(self.recording(), {"r": self.ITEM})
        (message,) = record.compare(self.recording(), {"r": {**self.ITEM, "sha256": "b"}})
        assert "r: other bits" in message and "within the tolerance" in message

    @pytest.mark.parametrize("change", [{"processor": "another"}, {"versions": {"torch": "0"}}])
    def test_others_need_the_same_within_the_tolerance(self, change):
        near = {**self.ITEM, "sha256": "b", "tolerant": {"x": [1.05, "t"]}}
        assert not record.compare(self.recording(**change), {"r": near})
        for value in ([1.3, "t"], [1.0, "u"], [1.0], [float("nan"), "t"]):
            assert record.compare(self.recording(**change), {"r": {**near, "tolerant": {"x": value}}})

    def test_nothing_may_be_missing(self):
        assert record.compare(self.recording(), {}) == ["r: missing"]
        assert record.compare(self.recording(), {"r": self.ITEM, "s": self.ITEM}) == ["s: not recorded"]
