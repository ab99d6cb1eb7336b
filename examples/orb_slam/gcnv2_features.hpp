// SPDX-License-Identifier: Apache-2.0
/// \file
/// The features message (sensor_msgs/PointCloud2, schema version 1) as what an ORB-SLAM-style backend works on.
///
/// Header-only, C++17, needs OpenCV's core module and nothing of ROS: the message type is a template parameter, so that
/// ROS 1 and ROS 2 messages do, and any struct with their members.
///
///     const gcnv2::Features features = gcnv2::decode(*message);
///     frame.mvKeys = features.keypoints;
///     frame.mDescriptors = features.descriptors;
///
/// Nothing in a message is trusted: whatever does not fit throws gcnv2::DecodeError, and no byte outside of `data` is
/// read.

#ifndef GCNV2_FEATURES_HPP
#define GCNV2_FEATURES_HPP

#include <opencv2/core.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace gcnv2 {

/// A message that cannot be read as features; what() names the field or the size that is wrong.
class DecodeError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Bytes of a binary descriptor, ORB's layout.
constexpr std::uint32_t kDescriptorBytes = 32;

/// One image's features. All members have one length N, which may be 0.
struct Features {
    /// Pixel, size, angle in degrees (-1: none), response and octave; class_id is left at -1. The centre of the
    /// top-left pixel is (0, 0). In descending order of response.
    std::vector<cv::KeyPoint> keypoints;
    /// N x 32, CV_8U, continuous. Empty, but of that type and width, if N is 0.
    cv::Mat descriptors;
    /// Metres along the optical axis; NaN: unknown.
    std::vector<float> depths;
    /// Column of the match in the right image of a rectified pair; -1: unknown.
    std::vector<float> right_u;
    /// Number of the track; -1: untracked.
    std::vector<std::int32_t> track_ids;
    /// Undistorted viewing rays with z = 1 in the optical frame; NaN without calibration.
    std::vector<cv::Point3f> rays;
};

namespace detail {

static_assert(std::numeric_limits<float>::is_iec559 && sizeof(float) == 4, "float must be IEEE 754 binary32");

// Values of sensor_msgs/PointField.datatype.
constexpr unsigned kUint8 = 2;
constexpr unsigned kInt32 = 5;
constexpr unsigned kFloat32 = 7;

enum Name { kX, kY, kZ, kU, kV, kResponse, kSize, kAngle, kOctave, kTrackId, kDepth, kRightU, kDescriptor, kNames };

struct Expected {
    const char* name;
    unsigned datatype;
    std::uint32_t count;
    std::uint32_t bytes;
    bool required;
};

constexpr std::array<Expected, kNames> kExpected{{
    {"x", kFloat32, 1, 4, false},
    {"y", kFloat32, 1, 4, false},
    {"z", kFloat32, 1, 4, false},
    {"u", kFloat32, 1, 4, true},
    {"v", kFloat32, 1, 4, true},
    {"response", kFloat32, 1, 4, true},
    {"size", kFloat32, 1, 4, false},
    {"angle", kFloat32, 1, 4, false},
    {"octave", kInt32, 1, 4, false},
    {"track_id", kInt32, 1, 4, false},
    {"depth", kFloat32, 1, 4, false},
    {"right_u", kFloat32, 1, 4, false},
    {"descriptor", kUint8, kDescriptorBytes, kDescriptorBytes, true},
}};

/// Offset of each field within a point; empty: the message does not have it.
using Offsets = std::array<std::optional<std::size_t>, kNames>;

template <typename PointCloud2>
Offsets find_fields(const PointCloud2& message) {
    Offsets offsets;
    for (const auto& field : message.fields) {
        for (std::size_t index = 0; index < kNames; ++index) {
            const Expected& expected = kExpected[index];
            if (field.name != expected.name) {
                continue;
            }
            const std::string named = "the field '" + std::string(expected.name) + "' of the features message ";
            if (offsets[index]) {
                throw DecodeError(named + "appears twice");
            }
            if (static_cast<unsigned>(field.datatype) != expected.datatype) {
                throw DecodeError(named + "has the datatype " + std::to_string(static_cast<unsigned>(field.datatype)) +
                                  ", expected " + std::to_string(expected.datatype));
            }
            if (field.count != expected.count) {
                throw DecodeError(named + "has the count " + std::to_string(field.count) + ", expected " +
                                  std::to_string(expected.count));
            }
            const std::uint64_t end = std::uint64_t{field.offset} + expected.bytes;
            if (end > message.point_step) {
                throw DecodeError(named + "ends at byte " + std::to_string(end) + " of a point of " +
                                  std::to_string(message.point_step) + " bytes");
            }
            offsets[index] = field.offset;
        }
    }
    for (std::size_t index = 0; index < kNames; ++index) {
        if (kExpected[index].required && !offsets[index]) {
            throw DecodeError("the features message lacks the field '" + std::string(kExpected[index].name) +
                              "'; is it from ~/features?");
        }
    }
    return offsets;
}

/// Refuses sizes that `data` does not have. All products are of 32-bit numbers, in 64 bits, and sums are avoided.
template <typename PointCloud2>
void check_sizes(const PointCloud2& message) {
    const std::uint64_t available = message.data.size();
    const std::uint64_t row = std::uint64_t{message.width} * message.point_step;
    if (message.height > 1 && message.row_step < row) {
        throw DecodeError("row_step of the features message is " + std::to_string(message.row_step) + ", less than " +
                          std::to_string(message.width) + " points of " + std::to_string(message.point_step) +
                          " bytes");
    }
    if (row > available ||
        (message.height > 1 && std::uint64_t{message.height} - 1 > (available - row) / message.row_step)) {
        throw DecodeError("data of the features message has " + std::to_string(available) + " bytes, too few for " +
                          std::to_string(message.height) + " x " + std::to_string(message.width) + " points of " +
                          std::to_string(message.point_step) + " bytes");
    }
}

/// Four little-endian bytes as a number, whatever the byte order of the machine.
template <typename Number>
Number read(const std::uint8_t* bytes) {
    static_assert(sizeof(Number) == 4, "a number of four bytes");
    const std::uint32_t bits = std::uint32_t{bytes[0]} | std::uint32_t{bytes[1]} << 8 | std::uint32_t{bytes[2]} << 16 |
                               std::uint32_t{bytes[3]} << 24;
    Number number;
    std::memcpy(&number, &bits, sizeof number);
    return number;
}

/// One point of a message whose fields and sizes have been checked.
class Point {
public:
    Point(const std::uint8_t* bytes, const Offsets& offsets) : bytes_(bytes), offsets_(offsets) {}

    float real(Name name, float unknown) const {
        return offsets_[name] ? read<float>(bytes_ + *offsets_[name]) : unknown;
    }
    std::int32_t integer(Name name, std::int32_t unknown) const {
        return offsets_[name] ? read<std::int32_t>(bytes_ + *offsets_[name]) : unknown;
    }
    const std::uint8_t* descriptor() const { return bytes_ + *offsets_[kDescriptor]; }

private:
    const std::uint8_t* bytes_;
    const Offsets& offsets_;
};

}  // namespace detail

/// Reads a features message.
///
/// Fields are found by name: their order, gaps, padded rows and further fields do not matter. Fields that schema
/// version 1 has and the message has not, other than u, v, response and descriptor, get the values for unknown.
///
/// \tparam PointCloud2  sensor_msgs::msg::PointCloud2 (ROS 2), sensor_msgs::PointCloud2 (ROS 1), or any type with
///     height, width, point_step, row_step (unsigned 32-bit), is_bigendian, data (contiguous bytes: data(), size())
///     and fields, a range of values with name, offset, datatype and count.
/// \param levels  Pyramid levels that the backend is set up for; an octave from outside of them would make it read
///     past its tables of scale factors.
/// \throws DecodeError  if a field is missing, doubled, of another type or count, or outside of its point; if the sizes
///     do not fit `data`; if the message is big-endian; if a position or response is not finite; if responses are not
///     in descending order; if an octave is outside of `levels`.
template <typename PointCloud2>
Features decode(const PointCloud2& message, int levels = 1) {
    if (message.is_bigendian) {
        throw DecodeError("the features message is big-endian; schema version 1 is little-endian");
    }
    const detail::Offsets offsets = detail::find_fields(message);
    Features features;
    if (message.height == 0 || message.width == 0) {
        features.descriptors.create(0, static_cast<int>(kDescriptorBytes), CV_8U);
        return features;
    }
    detail::check_sizes(message);
    // No more than there are bytes in `data`, so that a lying message cannot ask for memory.
    const std::uint64_t count = std::uint64_t{message.height} * message.width;
    if (count > static_cast<std::uint64_t>(std::numeric_limits<int>::max())) {
        throw DecodeError("the features message has more points than a cv::Mat has rows");
    }
    features.keypoints.reserve(count);
    features.depths.reserve(count);
    features.right_u.reserve(count);
    features.track_ids.reserve(count);
    features.rays.reserve(count);
    features.descriptors.create(static_cast<int>(count), static_cast<int>(kDescriptorBytes), CV_8U);

    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    float previous = std::numeric_limits<float>::infinity();
    for (std::uint32_t row = 0; row < message.height; ++row) {
        for (std::uint32_t column = 0; column < message.width; ++column) {
            const detail::Point point(message.data.data() + static_cast<std::size_t>(row) * message.row_step +
                                          static_cast<std::size_t>(column) * message.point_step,
                                      offsets);
            const std::string which = "point " + std::to_string(features.keypoints.size()) + " of the features message ";
            const float u = point.real(detail::kU, nan);
            const float v = point.real(detail::kV, nan);
            const float response = point.real(detail::kResponse, nan);
            const std::int32_t octave = point.integer(detail::kOctave, 0);
            if (!std::isfinite(u) || !std::isfinite(v) || !std::isfinite(response)) {
                throw DecodeError(which + "has a position or response that is not finite");
            }
            if (response > previous) {
                throw DecodeError(which + "has a larger response than the one before");
            }
            if (octave < 0 || octave >= levels) {
                throw DecodeError(which + "has the octave " + std::to_string(octave) + ", expected less than " +
                                  std::to_string(levels));
            }
            previous = response;
            std::memcpy(features.descriptors.ptr(static_cast<int>(features.keypoints.size())), point.descriptor(),
                        kDescriptorBytes);
            features.keypoints.emplace_back(u, v, point.real(detail::kSize, 16.0F), point.real(detail::kAngle, -1.0F),
                                            response, octave);
            features.depths.push_back(point.real(detail::kDepth, nan));
            features.right_u.push_back(point.real(detail::kRightU, -1.0F));
            features.track_ids.push_back(point.integer(detail::kTrackId, -1));
            features.rays.emplace_back(point.real(detail::kX, nan), point.real(detail::kY, nan),
                                       point.real(detail::kZ, nan));
        }
    }
    return features;
}

}  // namespace gcnv2

#endif  // GCNV2_FEATURES_HPP
