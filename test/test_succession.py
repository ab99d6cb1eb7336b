# SPDX-License-Identifier: Apache-2.0
"""Which messages count by their stamps: single ones that are off, and time that jumps."""

from __future__ import annotations

import pytest

from gcnv2_ros.succession import Step, Succession, Verdict

ON, BACK, AGAIN, LATE, OFF = Step.GOES_ON, Step.GOES_BACK, Step.REPEATS, Step.COMES_LATE, Step.IS_OFF


def verdicts(*seconds: float) -> list[Verdict]:
    """What is said of messages with these stamps, where those that count are used."""
    succession = Succession()
    found = []
    for stamp in (round(second * 1e9) for second in seconds):
        found.append(succession.judge(stamp))
        if found[-1].step is BACK:
            succession.restart()
        if found[-1].counts:
            succession.advance(stamp)
    return found


@pytest.mark.parametrize(
    ("seconds", "steps"),
    [
        pytest.param((100, 100.1, 109), (ON, ON, ON), id="in their turn"),
        pytest.param((100, 100, 99.5, 100.1), (ON, AGAIN, LATE, ON), id="repeated and late"),
        pytest.param((100, 0, 100.1), (ON, OFF, ON), id="one without a stamp"),
        pytest.param((100, 0, 0, 0, 100.1), (ON, OFF, OFF, OFF, ON), id="several without a stamp"),
        pytest.param((100, 4000, 100.1), (ON, OFF, ON), id="one far ahead"),
        pytest.param((100, 50, 100.1, 50.1, 100.2, 50.2), (ON, OFF, ON, OFF, ON, OFF), id="two sources"),
        pytest.param((100, 3, 3.1, 3.2), (ON, OFF, BACK, ON), id="a recording that starts again"),
        pytest.param((100, 98.9, 99.05, 99.2), (ON, OFF, BACK, ON), id="a jump of little more than a second"),
        pytest.param((100, 95, 99.9, 100.1), (ON, OFF, LATE, ON), id="one off and one late"),
        pytest.param((100, 160, 160.1, 160.2), (ON, OFF, ON, ON), id="a long pause"),
        pytest.param((0, 100, 100.1, 100.2), (ON, OFF, ON, ON), id="the first one without a stamp"),
        pytest.param((100, 115, 130, 145, 160), (ON, OFF, ON, OFF, ON), id="a very slow camera"),
    ],
)
def test_time_jumps_only_where_a_second_message_goes_on_from_the_first(
    seconds: tuple[float, ...], steps: tuple[Step, ...]
) -> None:
    assert tuple(verdict.step for verdict in verdicts(*seconds)) == steps


def test_sentences_name_stamps_and_distances() -> None:
    _, off, back = verdicts(100, 3, 3.1)
    assert off.sentence.startswith("its stamp, 3.000 s, is 97.0 s before that of the latest one")
    assert back.sentence == "time went back by 96.9 s"
    assert "its stamp, 160.000 s, is 60.0 s after" in verdicts(100, 160)[1].sentence
    assert "does the driver stamp its images?" in verdicts(100, 100)[1].sentence
    assert verdicts(100, 99.5)[1].sentence == "its stamp is 500 ms before that of the latest one"


def test_what_is_late_and_what_goes_on_may_be_said() -> None:
    succession = Succession(late_ns=5, gap_ns=20)
    succession.advance(1000)
    assert [succession.judge(stamp).step for stamp in (1020, 1021, 995, 994, 1000)] == [ON, OFF, LATE, OFF, AGAIN]
    assert [succession.judge(stamp).step for stamp in (900, 921, 941)] == [OFF, OFF, BACK]


def test_after_a_restart_any_stamp_counts() -> None:
    succession = Succession()
    succession.advance(100_000_000_000)
    assert succession.judge(0).step is OFF
    succession.restart()
    assert succession.judge(0).step is ON
