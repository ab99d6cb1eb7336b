# SPDX-License-Identifier: Apache-2.0
"""The parts of the node that need no ROS graph: queue and worker, statistics, throttle, diagnostics, calibration."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from gcnv2_ros.camera import Camera, CameraError
from gcnv2_ros.features import Features
from gcnv2_ros.rectification import Rectifier
from gcnv2_ros.ros.calibration import Calibration, View, stereo_geometry
from gcnv2_ros.ros.diagnostics import diagnostic_array, diagnostic_status
from gcnv2_ros.ros.reporting import Throttle
from gcnv2_ros.ros.statistics import WINDOW_SECONDS, Statistics
from gcnv2_ros.ros.worker import FrameQueue, Worker

TIMEOUT = 10.0


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_full_queue_drops_the_oldest() -> None:
    queue: FrameQueue[int] = FrameQueue(2)
    assert [queue.put(item) for item in range(4)] == [0, 0, 1, 1]
    assert [queue.get(), queue.get()] == [[2], [3]]


def test_a_closed_queue_dismisses_what_waits_and_who_waits() -> None:
    queue: FrameQueue[int] = FrameQueue(5)
    queue.put(1)
    queue.put(2)
    assert queue.close() == [2]
    assert queue.get() is None
    assert queue.put(3) == 1


def test_each_camera_has_a_lane_and_the_frames_of_all_are_taken_together() -> None:
    queue: FrameQueue[str] = FrameQueue(1, lanes=3)
    assert [queue.put(item, lane) for item, lane in (("a", 0), ("b", 2), ("c", 2))] == [0, 0, 1]
    assert queue.get() == ["a", "c"]
    queue.put("d", 1)
    assert queue.close() == [0, 1, 0]


def test_a_frame_waits_for_those_of_the_other_cameras_but_not_for_ever() -> None:
    queue: FrameQueue[str] = FrameQueue(1, lanes=2)
    queue.put("a", 0)
    later = threading.Timer(0.05, queue.put, ("b", 1))
    later.start()
    assert queue.get(gather=TIMEOUT) == ["a", "b"]
    queue.put("c", 1)
    assert queue.get(gather=0.01) == ["c"]


def test_the_worker_takes_the_newest_frame_after_a_slow_one() -> None:
    entered, release, done = threading.Event(), threading.Event(), threading.Event()
    seen: list[int] = []

    def work(items: list[int]) -> None:
        entered.set()
        assert release.wait(TIMEOUT)
        seen.extend(items)
        if items == [9]:
            done.set()

    worker: Worker[int] = Worker(work, lambda items, error: None, capacity=1)
    worker.submit(0)
    assert entered.wait(TIMEOUT)
    assert sum(worker.submit(item) for item in range(1, 10)) == 8
    release.set()
    assert done.wait(TIMEOUT)
    assert seen == [0, 9]
    assert worker.stop(TIMEOUT) == ([0], True)


def test_an_exception_ends_the_frame_and_not_the_worker() -> None:
    done = threading.Event()
    failed: list[tuple[int, str]] = []

    def work(items: list[int]) -> None:
        if items[0] < 2:
            raise ValueError(f"frame {items[0]}")
        done.set()

    worker: Worker[int] = Worker(work, lambda items, error: failed.append((items[0], str(error))), capacity=10)
    for item in range(3):
        worker.submit(item)
    assert done.wait(TIMEOUT)
    assert failed == [(0, "frame 0"), (1, "frame 1")]
    assert worker.stop(TIMEOUT) == ([0], True)


def test_a_failure_that_cannot_be_told_does_not_end_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()

    def work(items: list[int]) -> None:
        if items[0] < 2:
            raise ValueError(f"frame {items[0]}")
        done.set()

    def failed(items: list[int], error: Exception) -> None:
        raise OSError("the log is gone")

    worker: Worker[int] = Worker(work, failed, capacity=10)
    for item in range(3):
        worker.submit(item)
    assert done.wait(TIMEOUT)
    assert worker.stop(TIMEOUT) == ([0], True)
    for number in range(2):
        assert f"the failure of a frame (ValueError: frame {number}) could not be told" in caplog.text
    assert "OSError: the log is gone" in caplog.text


def test_stopping_tells_of_waiting_frames_and_of_one_that_does_not_end() -> None:
    entered, release = threading.Event(), threading.Event()

    def work(items: list[int]) -> None:
        entered.set()
        release.wait(TIMEOUT)

    worker: Worker[int] = Worker(work, lambda items, error: None, capacity=10)
    for item in range(4):
        worker.submit(item)
    assert entered.wait(TIMEOUT)
    assert worker.stop(0.01) == ([3], False)
    release.set()
    assert worker.stop(TIMEOUT) == ([0], True)


def test_stopping_does_not_wait_for_the_other_cameras_frames() -> None:
    worker: Worker[int] = Worker(lambda items: None, lambda items, error: None, capacity=1, lanes=2, gather=3600.0)
    worker.submit(1)
    dismissed, ended = worker.stop(TIMEOUT)
    assert ended
    assert sum(dismissed) == 1


def test_rates_and_latencies_are_those_of_the_latest_seconds() -> None:
    clock = Clock()
    statistics = Statistics(clock)
    # 20 Hz in, every other frame out with 10 ms; then, past the window, 10 Hz and 30 ms.
    for rate, latency, seconds in ((20.0, 0.01, 5.0), (10.0, 0.03, WINDOW_SECONDS)):
        for index in range(int(rate * seconds)):
            clock.now += 1.0 / rate
            received = clock.now
            statistics.count_received(received)
            if index % 2:
                clock.now += latency
                statistics.count_processed(received, keypoints=int(rate))
                clock.now -= latency
            else:
                statistics.count_dropped("newer frame")
        if rate == 20.0:
            first = statistics.snapshot()
    assert first.input_rate == pytest.approx(20.0, rel=0.02)
    assert first.output_rate == pytest.approx(10.0, rel=0.02)
    assert first.latency_median == pytest.approx(0.01)
    second = statistics.snapshot()
    assert second.input_rate == pytest.approx(10.0, rel=0.02)
    assert second.output_rate == pytest.approx(5.0, rel=0.02)
    assert second.latency_median == second.latency_p99 == pytest.approx(0.03)
    assert (second.received, second.processed, second.dropped) == (200, 100, {"newer frame": 100})
    assert second.keypoints == 10

    clock.now += WINDOW_SECONDS + 1
    silent = statistics.snapshot()
    assert (silent.input_rate, silent.output_rate) == (0.0, 0.0)
    assert np.isnan(silent.latency_median)
    assert silent.silence == pytest.approx(WINDOW_SECONDS + 1)


def test_the_slowest_frames_show_in_the_99th_percentile() -> None:
    clock = Clock()
    statistics = Statistics(clock)
    for index in range(100):
        statistics.count_processed(clock.now - (0.5 if index < 3 else 0.01), 1)
    snapshot = statistics.snapshot()
    assert snapshot.latency_median == pytest.approx(0.01)
    assert snapshot.latency_p99 == pytest.approx(0.5)


def test_a_throttle_lets_the_first_of_each_kind_pass_and_counts_the_rest() -> None:
    clock = Clock()
    throttle = Throttle(60.0, clock)
    assert [throttle.admit("a"), throttle.admit("a"), throttle.admit("b"), throttle.admit("a")] == [0, None, 0, None]
    clock.now += 61.0
    assert [throttle.admit("a"), throttle.admit("b"), throttle.admit("a")] == [2, 0, None]


def status_of(statistics: Statistics, state: str = "active", timeout: float = 5.0) -> DiagnosticStatus:
    """The node's status for some counts."""
    status = diagnostic_status(
        name="/front/gcnv2_frontend",
        state=state,
        info=None,
        snapshot=statistics.snapshot(),
        topic="/front/image",
        image_timeout=timeout,
        unmatched="no image and depth image have equal stamps",
    )
    array = diagnostic_array(Time(sec=7), [status])
    assert array.header.stamp.sec == 7
    return array.status[0]


def test_diagnostics_tell_working_from_troubled_from_failing() -> None:
    clock = Clock()
    statistics = Statistics(clock)

    def frame(good: bool) -> None:
        clock.now += 0.1
        statistics.count_received(clock.now)
        if good:
            statistics.count_processed(clock.now, 12)
        else:
            statistics.count_dropped("truncated")
            statistics.note_error("the data are short")

    frame(True)
    status = status_of(statistics)
    assert (status.name, status.level) == ("front/gcnv2_frontend: features", DiagnosticStatus.OK)
    frame(False)
    status = status_of(statistics)
    assert status.level == DiagnosticStatus.WARN
    assert "the data are short" in status.message
    clock.now += WINDOW_SECONDS
    frame(False)
    status = status_of(statistics)
    assert (status.level, status.message) == (
        DiagnosticStatus.ERROR,
        "no frame can be processed: the data are short",
    )
    assert {entry.key: entry.value for entry in status.values}["frames dropped: truncated"] == "2"
    clock.now += 6.0
    status = status_of(statistics)
    assert (status.level, status.message) == (DiagnosticStatus.WARN, "no image on /front/image for 6 s")
    assert status_of(statistics, timeout=0.0).level == DiagnosticStatus.ERROR
    assert status_of(statistics, state="inactive").level == DiagnosticStatus.OK


def test_diagnostics_tell_frames_without_depth_from_lost_ones() -> None:
    statistics = Statistics(Clock())
    statistics.count_received(100.0)
    statistics.count_processed(100.0, 12)
    statistics.note_error("there is no calibration", cost_frame=False)
    status = status_of(statistics)
    assert (status.level, status.message) == (
        DiagnosticStatus.WARN,
        "some frames are incomplete: there is no calibration",
    )


def test_diagnostics_tell_of_frames_none_of_which_is_complete() -> None:
    statistics = Statistics(Clock())
    for _ in range(3):
        statistics.count_received(100.0)
    assert status_of(statistics).level == DiagnosticStatus.OK
    # It may come more often than images.
    statistics.count_unmatched("depth", 40)
    assert status_of(statistics).level == DiagnosticStatus.OK
    statistics.count_unmatched("image", 2)
    status = status_of(statistics)
    assert (status.level, status.message) == (
        DiagnosticStatus.WARN,
        "no frame is complete: no image and depth image have equal stamps",
    )


def test_only_a_lost_image_is_a_lost_frame() -> None:
    statistics = Statistics(Clock())
    statistics.count_lost("mask", 7)
    statistics.count_lost("image", 2)
    assert statistics.snapshot().dropped == {"lost in transport": 2}
    values = {entry.key: entry.value for entry in status_of(statistics).values}
    assert (values["messages lost: mask"], values["messages lost: image"]) == ("7", "2")


def features_at(uv: list[list[float]], size: tuple[int, int] = (640, 480)) -> Features:
    """Features at some pixels of an image."""
    return Features(uv, np.zeros(len(uv)), np.zeros((len(uv), 32), np.uint8), size)


def test_the_calibration_follows_camera_info() -> None:
    calibration = Calibration()
    features = features_at([[319.5, 239.5], [100.0, 50.0]])
    assert calibration.view.rays(features) is None

    message = CameraInfo(**Camera(640, 480, 500.0, 500.0, 319.5, 239.5).camera_info_fields())
    assert calibration.update(message)
    assert not calibration.update(message)
    np.testing.assert_allclose(calibration.view.rays(features)[0], [0, 0, 1], atol=1e-6)

    changed = CameraInfo(**Camera(640, 480, 250.0, 500.0, 319.5, 239.5).camera_info_fields())
    before = calibration.view.rays(features)
    assert calibration.update(changed)
    np.testing.assert_allclose(calibration.view.rays(features)[1, 0], 2 * before[1, 0], rtol=1e-6)

    assert calibration.update(CameraInfo(width=640, height=480))
    assert calibration.view.rays(features) is None


@pytest.mark.parametrize(
    "field",
    ["d", "k", "r", "p", "binning_x", "binning_y", "roi.x_offset", "roi.y_offset", "roi.width", "roi.height"],
)
def test_a_camera_info_that_differs_in_a_single_field_is_another_calibration(field: str) -> None:
    turn = cv2.Rodrigues(np.array([0.0, 0.0, 0.1]))[0]
    projection = [[480.0, 0, 310, -40], [0, 480.0, 230, 0], [0, 0, 1, 0]]
    sensor = Camera(640, 480, 500.0, 500.0, 320.0, 240.0, "plumb_bob", (0.1,) * 5, turn, projection)
    first, second = (CameraInfo(**sensor.camera_info_fields(), binning_x=2, binning_y=2) for _ in range(2))
    for message in (first, second):
        message.roi = RegionOfInterest(x_offset=100, y_offset=80, width=200, height=100)
    if len(field) == 1:
        getattr(second, field)[0] *= 1.01
    else:
        part, _, name = field.rpartition(".")
        target = getattr(second, part) if part else second
        setattr(target, name, getattr(target, name) * 2)
    calibration = Calibration()
    assert calibration.update(first)
    before = calibration.camera
    assert calibration.update(second)
    assert calibration.camera == Camera.from_camera_info(second) != before


def test_what_a_rectified_image_is_seen_by_does_not_depend_on_who_rectified_it() -> None:
    turn = cv2.Rodrigues(np.array([0.1, 0.0, 0.2]))[0]
    projection = [[400.0, 0, 310, -40], [0, 400.0, 230, 0], [0, 0, 1, 0]]
    lens = Camera(640, 480, 500.0, 500.0, 320.0, 240.0, "plumb_bob", (0.1,) * 5, turn, projection)
    raw, rectified = Calibration(), Calibration(rectified=True)
    for calibration in (raw, rectified):
        assert calibration.view.seen is None
        assert calibration.view.rectification is None
        calibration.update(CameraInfo(**lens.camera_info_fields()))
    assert raw.view.seen is raw.camera
    assert raw.view.rectification is None
    assert rectified.view.seen is not None
    assert (rectified.view.seen.fx, rectified.view.seen.model) == (400.0, "none")
    np.testing.assert_allclose(rectified.view.rectification, turn, atol=1e-12)


def test_a_calibration_for_another_size_or_lens_gives_no_rays() -> None:
    calibration = Calibration()
    calibration.update(CameraInfo(**Camera(640, 480, 500.0, 500.0, 319.5, 239.5).camera_info_fields()))
    with pytest.raises(CameraError, match=r"320x240.*640x480"):
        calibration.view.rays(features_at([[1.0, 1.0]], (320, 240)))
    unknown = CameraInfo(**Camera(640, 480, 500.0, 500.0, 319.5, 239.5).camera_info_fields())
    unknown.distortion_model = "thin_prism_of_my_own"
    with pytest.raises(CameraError, match="thin_prism_of_my_own"):
        calibration.update(unknown)
    assert calibration.camera is None
    assert not calibration.update(unknown), "the same message is not tried again"


def test_a_frame_in_work_keeps_its_calibration_when_another_comes() -> None:
    calibration = Calibration(rectified=True)
    features = features_at([[100.0, 50.0]])
    projections = [[[focal, 0, 320, 0], [0, focal, 240, 0], [0, 0, 1, 0]] for focal in (400.0, 500.0)]
    first, second = (Camera(640, 480, 450.0, 450.0, 320.0, 240.0, projection=matrix) for matrix in projections)
    calibration.update(CameraInfo(**first.camera_info_fields()))
    view = calibration.view
    before = view.rays(features)
    calibration.update(CameraInfo(**second.camera_info_fields()))
    np.testing.assert_array_equal(view.rays(features), before)
    assert view.rectifier().camera.fx == 400.0
    assert calibration.view.rectifier().camera.fx == 500.0
    calibration.update(CameraInfo(width=640, height=480))
    np.testing.assert_array_equal(view.rays(features), before)
    with pytest.raises(CameraError, match="there is no calibration"):
        calibration.view.rectifier()


def test_calibrations_that_alternate_keep_what_rectifies_their_images() -> None:
    calibration = Calibration()
    messages = [
        CameraInfo(**Camera(64, 48, focal, focal, 32.0, 24.0, "plumb_bob", (0.1,) * 5).camera_info_fields())
        for focal in (40.0, 50.0, 60.0)
    ]

    def rectifiers(order: list[int]) -> list[Rectifier]:
        found = []
        for index in order:
            assert calibration.update(messages[index])
            found.append(calibration.view.rectifier())
            assert found[-1].camera.fx == messages[index].p[0]
        return found

    first, second, again, second_again = rectifiers([0, 1, 0, 1])
    assert (first, second) == (again, second_again)
    assert rectifiers([2, 0])[1] is not first, "only the latest are kept"


def test_a_calibration_that_is_no_camera_is_refused_whenever_it_comes() -> None:
    calibration = Calibration()
    good = CameraInfo(**Camera(64, 48, 40.0, 40.0, 32.0, 24.0).camera_info_fields())
    bad = CameraInfo(**Camera(64, 48, 40.0, 40.0, 32.0, 24.0).camera_info_fields())
    bad.distortion_model = "thin_prism_of_my_own"
    for _ in range(2):
        assert calibration.update(good)
        with pytest.raises(CameraError, match="thin_prism_of_my_own"):
            calibration.update(bad)
        assert calibration.camera is None


def pair(cx: float = 320.0, cy: float = 240.0, fx: float = 500.0, baseline: float = 0.1) -> list[View]:
    """Calibrations of a rectified pair, the right one's projection as given."""
    views = ((500.0, 320.0, 240.0, 0.0), (fx, cx, cy, baseline))
    calibrations = [Calibration(rectified=True), Calibration(rectified=True)]
    for calibration, (focal, u, v, shift) in zip(calibrations, views):
        projection = [[focal, 0, u, -focal * shift], [0, 500.0, v, 0], [0, 0, 1, 0]]
        camera = Camera(640, 480, 500.0, 500.0, 320.0, 240.0, projection=projection)
        assert calibration.update(CameraInfo(**camera.camera_info_fields()))
    return [calibration.view for calibration in calibrations]


def test_a_pair_gives_focal_length_and_baseline() -> None:
    assert stereo_geometry(*pair(), (640, 480)) == pytest.approx((500.0, 0.1))
    # What a file with few digits leaves.
    assert stereo_geometry(*pair(cx=320.01), (640, 480)) == pytest.approx((500.0, 0.1))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"cx": 320.2}, "differ in their columns .*cx 320 and 320.2 pixels"),
        ({"cx": 330.0}, "differ in their columns .*cx 320 and 330 pixels.* disparity 0"),
        ({"fx": 510.0}, "differ in their columns .fx 500 and 510"),
        ({"cy": 243.0}, "differ in their rows"),
        ({"baseline": -0.1}, "baseline of -0.1 m.*left and right are swapped"),
        ({"baseline": 0.0}, "baseline of 0 m"),
    ],
)
def test_a_pair_that_would_give_wrong_depth_is_refused(values: dict[str, float], sentence: str) -> None:
    with pytest.raises(CameraError, match=sentence):
        stereo_geometry(*pair(**values), (640, 480))


def test_a_pair_of_images_that_the_calibration_is_not_for_has_no_depth() -> None:
    with pytest.raises(CameraError, match=r"320x240 .* is for 640x480; depth is left out"):
        stereo_geometry(*pair(), (320, 240))
