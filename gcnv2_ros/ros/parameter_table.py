# SPDX-License-Identifier: Apache-2.0
"""The table of the frontend's parameters, from which they are declared, checked and documented."""

from __future__ import annotations

from ..extraction import DecodeOptions, ExtractorOptions
from ..extraction.options import CANDIDATES, DETECTORS, LARGEST_SMOOTHING
from .parameter_spec import ParameterSpec

AUTOMATIC = -1
"""The value of a number that stands for the recommended one."""

NO_LABEL = -1
"""The entry of `mask_labels` that stands for no label."""

MODES = ("mono", "stereo", "rgbd", "multi")

_TRANSPORTS = ("raw", "compressed")

_MODEL = ExtractorOptions()
_DECODE = DecodeOptions()
_RELIABILITY = ("best_effort", "reliable")

PARAMETERS: tuple[ParameterSpec, ...] = (
    ParameterSpec(
        "autostart",
        True,
        "Configure and activate at the start. false: wait for lifecycle transitions from outside.",
    ),
    ParameterSpec(
        "mode",
        "mono",
        "mono: one camera. stereo: a rectified pair. rgbd: a camera with a registered depth image. multi: several "
        "cameras by themselves, with one network.",
        choices=MODES,
    ),
    ParameterSpec(
        "cameras",
        ["front", "rear"],
        "Names of the cameras in the mode multi; NAME/image and NAME/camera_info in, ~/NAME/features out.",
    ),
    ParameterSpec(
        "batch_wait",
        0.005,
        "Seconds that a frame waits for those of the other cameras in the mode multi, to share one run of the network.",
        minimum=0.0,
        maximum=1.0,
    ),
    ParameterSpec("model", _MODEL.model, "Name of the network (gcnv2, gcnv2_tiny, ...), or orb for OpenCV's ORB."),
    ParameterSpec(
        "weights",
        _MODEL.weights,
        "default: the weights that the package ships for the model; else a weights file.",
    ),
    ParameterSpec(
        "runtime",
        _MODEL.runtime,
        "auto (the best one that is installed), openvino, onnxruntime, torch or torch_compile.",
    ),
    ParameterSpec(
        "device",
        _MODEL.device,
        "auto (CUDA where there is one, else the CPU), cpu, cuda or cuda:N; Intel's: gpu, gpu:N or npu.",
    ),
    ParameterSpec(
        "precision",
        _MODEL.precision,
        "Arithmetic of the network. auto: what suits the device. int8: on the CPU, with calibrated weights.",
        choices=("auto", "fp32", "fp16", "bf16", "int8"),
    ),
    ParameterSpec(
        "input_width",
        _MODEL.input_width,
        "Width in pixels to which images are resized for the network; 0 with input_height 0: the image's own size.",
        minimum=0,
        maximum=8192,
    ),
    ParameterSpec(
        "input_height",
        _MODEL.input_height,
        "Height in pixels to which images are resized for the network; 0 with input_width 0: the image's own size.",
        minimum=0,
        maximum=8192,
    ),
    ParameterSpec(
        "threads",
        _MODEL.threads,
        "CPU threads of the inference engine; 0: the engine's own choice.",
        minimum=0,
        maximum=1024,
    ),
    ParameterSpec(
        "max_keypoints",
        _DECODE.max_keypoints,
        "At most so many keypoints an image, the best ones.",
        live=True,
        minimum=1,
        maximum=20000,
    ),
    ParameterSpec(
        "detector",
        _DECODE.detector,
        "What scores the pixels. network: its score map. blobs: bright and dark blobs of the network's input image. "
        "auto: what the weights recommend.",
        live=True,
        choices=DETECTORS,
    ),
    ParameterSpec(
        "score_threshold",
        float(AUTOMATIC),
        "Keypoints score above it; below 0: what is recommended for the detector and the input size.",
        live=True,
        minimum=-1.0,
        maximum=1.0,
    ),
    ParameterSpec(
        "smoothing",
        float(AUTOMATIC),
        "Blur of the network's score map before keypoints are chosen, standard deviation in network pixels; below 0: "
        "what the weights recommend for the input size; 0: none. Not used by blobs.",
        live=True,
        minimum=-1.0,
        maximum=LARGEST_SMOOTHING,
    ),
    ParameterSpec(
        "candidates",
        _DECODE.candidates,
        "Which pixels above the threshold may be keypoints. peaks: those that no neighbour outscores. all: as in the "
        "original pipeline, slopes of peaks too. auto: peaks of blobs, what the weights recommend of the network.",
        live=True,
        choices=CANDIDATES,
    ),
    ParameterSpec(
        "nms_radius",
        AUTOMATIC,
        "A keypoint suppresses others within this distance in network pixels; -1: what is recommended for the detector "
        "and the input size.",
        live=True,
        minimum=-1,
        maximum=256,
    ),
    ParameterSpec(
        "border",
        AUTOMATIC,
        "Keypoints closer than this to an edge are dropped, in network pixels; -1: 8 at 320x240, 16 at 640x480.",
        live=True,
        minimum=-1,
        maximum=1024,
    ),
    ParameterSpec(
        "subpixel",
        _DECODE.subpixel,
        "Refine positions by a quadratic fit to the detector's logits.",
        live=True,
    ),
    ParameterSpec(
        "bucket_columns",
        _DECODE.bucket_columns,
        "Spread keypoints over a grid with so many columns; 0, or bucket_rows 0: no grid.",
        live=True,
        minimum=0,
        maximum=256,
    ),
    ParameterSpec(
        "bucket_rows",
        _DECODE.bucket_rows,
        "Spread keypoints over a grid with so many rows; 0, or bucket_columns 0: no grid.",
        live=True,
        minimum=0,
        maximum=256,
    ),
    ParameterSpec(
        "image_transport",
        "raw",
        "raw: sensor_msgs/Image on image. compressed: sensor_msgs/CompressedImage on image/compressed.",
        choices=_TRANSPORTS,
    ),
    ParameterSpec(
        "depth_transport",
        "raw",
        "raw: sensor_msgs/Image on depth. compressed: sensor_msgs/CompressedImage on depth/compressedDepth.",
        choices=_TRANSPORTS,
    ),
    ParameterSpec(
        "mask_transport",
        "raw",
        "raw: sensor_msgs/Image on mask. compressed: sensor_msgs/CompressedImage (PNG) on mask/compressed.",
        choices=_TRANSPORTS,
    ),
    ParameterSpec(
        "stretch",
        "adaptive",
        "How 16-bit images become 8-bit ones. adaptive: a window that follows the scene slowly. fixed: the full range.",
        choices=("adaptive", "fixed"),
    ),
    ParameterSpec(
        "queue",
        "latest",
        "latest: the newest frame waits for the network, older ones are dropped. all: every frame waits, for replay.",
        choices=("latest", "all"),
    ),
    ParameterSpec(
        "queue_limit",
        2000,
        "Frames that may wait with queue: all; beyond it the oldest is dropped. Mind the memory.",
        minimum=1,
        maximum=100_000,
    ),
    ParameterSpec(
        "sync",
        "approximate",
        "How image, right image, depth and mask find each other: by exact stamps, or approximate within sync_slop.",
        choices=("exact", "approximate"),
    ),
    ParameterSpec(
        "sync_slop",
        0.01,
        "Seconds by which stamps of one frame may differ with sync: approximate; less than half a frame period.",
        minimum=0.0,
        maximum=10.0,
    ),
    ParameterSpec(
        "sync_queue",
        10,
        "Messages of each topic that wait for their partners; beyond it the oldest goes and is counted as unmatched.",
        minimum=1,
        maximum=10000,
    ),
    ParameterSpec(
        "rectify",
        False,
        "Rectify images (and depth and masks) by their calibration first; positions are then those of the rectified "
        "image. Needed for stereo from raw images.",
    ),
    ParameterSpec(
        "rectified_input",
        False,
        "The images are rectified already (image_rect): viewing rays by the projection matrix, and roll by the "
        "rectification matrix. Implied in stereo without rectify.",
    ),
    ParameterSpec(
        "calibration_file",
        "",
        "Calibration file (ROS, OpenCV, ORB-SLAM, Kalibr, EuRoC) in place of camera_info; FILE#NAME for one camera of "
        "several; {camera} in it stands for the camera's name in the mode multi. Empty: camera_info.",
    ),
    ParameterSpec(
        "right_calibration_file",
        "",
        "The same for the right camera in the mode stereo.",
    ),
    ParameterSpec(
        "mask_source",
        "none",
        "none: no mask topic. synchronized: a frame waits for the mask of its stamp. latest: the newest mask serves.",
        choices=("none", "synchronized", "latest"),
    ),
    ParameterSpec(
        "mask_file",
        "",
        "Image file (PNG) with a mask that always holds; {camera} as in calibration_file. Empty: none.",
    ),
    ParameterSpec("right_mask_file", "", "The same for the right camera in the mode stereo."),
    ParameterSpec(
        "mask_keep",
        "nonzero",
        "Where keypoints may lie: at pixels of masks that are nonzero, or at those that are zero.",
        live=True,
        choices=("nonzero", "zero"),
    ),
    ParameterSpec(
        "mask_labels",
        [NO_LABEL],
        "Labels to leave out, e.g. people and cars; mask is then a label image and mask_keep is not used for it. "
        "-1: none, mask is a mask.",
        live=True,
        minimum=-1,
        maximum=2147483647,
    ),
    ParameterSpec(
        "crop_left",
        0,
        "Pixels of the received image without keypoints at its left side.",
        live=True,
        minimum=0,
        maximum=8192,
    ),
    ParameterSpec(
        "crop_top",
        0,
        "Pixels of the received image without keypoints at its top.",
        live=True,
        minimum=0,
        maximum=8192,
    ),
    ParameterSpec(
        "crop_right",
        0,
        "Pixels of the received image without keypoints at its right side.",
        live=True,
        minimum=0,
        maximum=8192,
    ),
    ParameterSpec(
        "crop_bottom",
        0,
        "Pixels of the received image without keypoints at its bottom.",
        live=True,
        minimum=0,
        maximum=8192,
    ),
    ParameterSpec(
        "stereo_max_distance",
        float(AUTOMATIC),
        "Largest descriptor distance of a stereo match; -1: 0.3 of the bits, or 0.9 for float descriptors.",
        live=True,
        minimum=-1.0,
        maximum=1e6,
    ),
    ParameterSpec(
        "stereo_max_disparity",
        float(AUTOMATIC),
        "Largest disparity in pixels, which sets the nearest depth; -1: a quarter of the image's width.",
        live=True,
        minimum=-1.0,
        maximum=100000.0,
    ),
    ParameterSpec(
        "stereo_row_tolerance",
        2.0,
        "Largest difference in rows of a stereo match, in pixels.",
        live=True,
        minimum=0.0,
        maximum=1000.0,
    ),
    ParameterSpec(
        "tracking",
        False,
        "Follow keypoints from frame to frame: fills track_id, and refines the positions of those that are followed.",
    ),
    ParameterSpec(
        "vins",
        False,
        "Publish the tracks on vins_features (sensor_msgs/PointCloud, as VINS-Fusion takes them); implies tracking.",
    ),
    ParameterSpec(
        "rtabmap",
        False,
        "Publish rgbd_image (rtabmap_msgs/RGBDImage) with features for RTAB-Map; needs rtabmap_msgs, raw transports "
        "and rectify: false.",
    ),
    ParameterSpec(
        "upright",
        "none",
        "Turn images upright before the network sees them, by the direction of gravity: from imu (sensor_msgs/Imu), or "
        "from tf (needs tf2_msgs).",
        choices=("none", "imu", "tf"),
    ),
    ParameterSpec(
        "upright_fixed_frame",
        "odom",
        "Frame of tf whose z axis points up, for upright: tf; tf must connect it with the frame_id of the images.",
    ),
    ParameterSpec(
        "imu_rotation",
        [0.0, 0.0, 0.0, 1.0],
        "Quaternion x, y, z, w that takes vectors from the IMU's frame to the camera's own optical frame, the one "
        "before rectification; in the mode multi one for all cameras, or one after the other for each.",
        minimum=-1.0,
        maximum=1.0,
    ),
    ParameterSpec(
        "subscribe_reliability",
        "best_effort",
        "QoS of the image subscriptions. reliable never matches a best-effort camera; use it for replay.",
        choices=_RELIABILITY,
    ),
    ParameterSpec("subscribe_depth", 5, "QoS history depth of the image subscriptions.", minimum=1, maximum=10000),
    ParameterSpec(
        "publish_reliability",
        "reliable",
        "QoS of what is published: features, points, debug images.",
        choices=_RELIABILITY,
    ),
    ParameterSpec("publish_depth", 5, "QoS history depth of the published features.", minimum=1, maximum=10000),
    ParameterSpec(
        "image_timeout",
        5.0,
        "Seconds without a message on an input topic after which a warning names it and its publishers; 0: never.",
        live=True,
        minimum=0.0,
        maximum=86400.0,
    ),
    ParameterSpec(
        "debug_image_rate",
        5.0,
        "At most so many debug images a second, and only while somebody subscribes; 0: none.",
        live=True,
        minimum=0.0,
        maximum=1000.0,
    ),
)
"""Every parameter of the node, in the order of the documentation."""
