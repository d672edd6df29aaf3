"""A short fuzz of all that reads files: `make fuzz` runs the same for hours, from other seeds."""

import pytest
from fuzz.run import Failures, run

COUNTS = {"images": 250, "databases": 80, "tables": 60, "settings": 120, "models": 12, "commands": 12}


@pytest.mark.parametrize("target", COUNTS)
def test_damaged_inputs_give_a_right_result_or_one_line(target, tmp_path, capfd):
    failures = Failures(target, tmp_path)
    run(target, 0, COUNTS[target], failures, seconds=300, megabytes=1000)
    assert not failures.seeds, capfd.readouterr().out
