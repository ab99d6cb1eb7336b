// SPDX-License-Identifier: Apache-2.0
/// Decodes the messages of a file that test_orb_slam_decoder.py wrote, and writes what it found to another.
///
/// Everything little-endian. Input, for each message: height, width, point_step, row_step (u32), is_bigendian (u8),
/// number of fields (u32), each field as length of name (u32), name, offset (u32), datatype (u8), count (u32); then the
/// length of data (u32) and data. Output, for each message: accepted (u8); if so the number of keypoints (u32), then for
/// each x y z u v response size angle depth right_u (f32), octave, track_id, class_id (i32) and the descriptor; if not
/// the length of the sentence (u32) and the sentence.

#include "message_extractor.hpp"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace {

struct Field {
    std::string name;
    std::uint32_t offset;
    std::uint8_t datatype;
    std::uint32_t count;
};

struct Message {
    std::uint32_t height, width, point_step, row_step;
    bool is_bigendian;
    std::vector<Field> fields;
    std::vector<std::uint8_t> data;
};

template <typename Value>
Value take(std::istream& stream) {
    Value value{};
    stream.read(reinterpret_cast<char*>(&value), sizeof value);
    return value;
}

template <typename Value>
void give(std::ostream& stream, const Value& value) {
    stream.write(reinterpret_cast<const char*>(&value), sizeof value);
}

Message read_message(std::istream& stream) {
    Message message;
    message.height = take<std::uint32_t>(stream);
    message.width = take<std::uint32_t>(stream);
    message.point_step = take<std::uint32_t>(stream);
    message.row_step = take<std::uint32_t>(stream);
    message.is_bigendian = take<std::uint8_t>(stream) != 0;
    message.fields.resize(take<std::uint32_t>(stream));
    for (Field& field : message.fields) {
        field.name.resize(take<std::uint32_t>(stream));
        stream.read(field.name.data(), static_cast<std::streamsize>(field.name.size()));
        field.offset = take<std::uint32_t>(stream);
        field.datatype = take<std::uint8_t>(stream);
        field.count = take<std::uint32_t>(stream);
    }
    // Allocated at its exact size, so that the address sanitizer sees a read of one byte too many.
    message.data = std::vector<std::uint8_t>(take<std::uint32_t>(stream));
    stream.read(reinterpret_cast<char*>(message.data.data()), static_cast<std::streamsize>(message.data.size()));
    return message;
}

/// What a backend sees: the keypoints and descriptors by way of the extractor's call.
void write_features(std::ostream& out, gcnv2::Features features) {
    gcnv2::MessageExtractor extractor;
    extractor.put(std::move(features));
    std::vector<cv::KeyPoint> keypoints;
    std::vector<int> lapping_area{0, 0};
    cv::Mat descriptors;
    const int count = extractor(cv::Mat(), cv::Mat(), keypoints, descriptors, lapping_area);
    const gcnv2::Features& rest = extractor.current();
    if (descriptors.rows != count || descriptors.cols != 32 || descriptors.type() != CV_8U) {
        std::fputs("the descriptors are no N x 32 matrix of CV_8U\n", stderr);
        std::exit(3);
    }
    give(out, static_cast<std::uint32_t>(count));
    for (int index = 0; index < count; ++index) {
        const std::size_t at = static_cast<std::size_t>(index);
        const cv::KeyPoint& keypoint = keypoints.at(at);
        const cv::Point3f& ray = rest.rays.at(at);
        for (const float value : {ray.x, ray.y, ray.z, keypoint.pt.x, keypoint.pt.y, keypoint.response, keypoint.size,
                                  keypoint.angle, rest.depths.at(at), rest.right_u.at(at)}) {
            give(out, value);
        }
        give(out, std::int32_t{keypoint.octave});
        give(out, rest.track_ids.at(at));
        give(out, std::int32_t{keypoint.class_id});
        out.write(reinterpret_cast<const char*>(descriptors.ptr(index)), 32);
    }
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 3) {
        std::fputs("usage: decode_messages IN OUT\n", stderr);
        return 2;
    }
    std::ifstream in(arguments[1], std::ios::binary);
    std::ofstream out(arguments[2], std::ios::binary);
    while (in.peek() != std::ifstream::traits_type::eof()) {
        const Message message = read_message(in);
        if (!in) {
            std::fputs("the file of messages is cut off\n", stderr);
            return 2;
        }
        try {
            gcnv2::Features features = gcnv2::decode(message);
            give(out, std::uint8_t{1});
            write_features(out, std::move(features));
        } catch (const gcnv2::DecodeError& error) {
            const std::string sentence = error.what();
            give(out, std::uint8_t{0});
            give(out, static_cast<std::uint32_t>(sentence.size()));
            out << sentence;
        }
    }
    return out ? 0 : 2;
}
