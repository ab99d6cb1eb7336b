// SPDX-License-Identifier: Apache-2.0
/// \file
/// Features from messages in the place of ORB-SLAM's own extractor.
///
/// ORB-SLAM2 and 3 ask an extractor object for keypoints and descriptors of an image, and for the scale of its pyramid's
/// levels. gcnv2::MessageExtractor answers the same calls, with features that the frontend has computed already.

#ifndef GCNV2_MESSAGE_EXTRACTOR_HPP
#define GCNV2_MESSAGE_EXTRACTOR_HPP

#include "gcnv2_features.hpp"

#include <cmath>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

namespace gcnv2 {

/// Hands out the features of one image after the other: put() before the frame is made, operator() while it is.
///
/// One pyramid level of scale 1. put() and the calls may come from different threads.
class MessageExtractor {
public:
    /// Features of the image that the next call is about; replaces those that nobody has asked for.
    void put(Features features) {
        const std::lock_guard<std::mutex> lock(mutex_);
        next_ = std::move(features);
    }

    /// The call of ORB-SLAM2. The image is not looked at.
    /// \throws std::logic_error  if put() has not been called since the last call.
    void operator()(cv::InputArray /*image*/, cv::InputArray /*mask*/, std::vector<cv::KeyPoint>& keypoints,
                    cv::OutputArray descriptors) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!next_) {
            throw std::logic_error("a frame was made before its features were put into the extractor");
        }
        current_ = std::move(*next_);
        next_.reset();
        keypoints = current_.keypoints;
        // Of the right type and width also when it is empty, which copyTo alone would not make it.
        descriptors.create(current_.descriptors.rows, current_.descriptors.cols, current_.descriptors.type());
        if (!keypoints.empty()) {
            current_.descriptors.copyTo(descriptors);
        }
    }

    /// The call of ORB-SLAM3. Lapping areas are for pairs of fisheye cameras, which this does not serve.
    /// \returns the number of keypoints
    int operator()(cv::InputArray image, cv::InputArray mask, std::vector<cv::KeyPoint>& keypoints,
                   cv::OutputArray descriptors, std::vector<int>& /*lapping_area*/) {
        (*this)(image, mask, keypoints, descriptors);
        return static_cast<int>(keypoints.size());
    }

    /// All of the features of the latest call: depths, right coordinates, tracks, rays.
    const Features& current() const { return current_; }

    int GetLevels() const { return 1; }
    /// Of no effect with one level, but ORB-SLAM divides by its logarithm.
    float GetScaleFactor() const { return 1.2F; }
    std::vector<float> GetScaleFactors() const { return {1.0F}; }
    std::vector<float> GetInverseScaleFactors() const { return {1.0F}; }
    std::vector<float> GetScaleSigmaSquares() const { return {1.0F}; }
    std::vector<float> GetInverseScaleSigmaSquares() const { return {1.0F}; }

private:
    std::mutex mutex_;
    std::optional<Features> next_;
    Features current_;
};

/// Depth and right coordinate of each keypoint as ORB-SLAM keeps them (mvDepth, mvuRight): -1 where unknown.
///
/// \param undistorted  the frame's undistorted keypoints, in the order of `features`
/// \param baseline_times_focal  mbf: baseline in metres times focal length in pixels, of the real or virtual stereo pair
/// \throws std::invalid_argument  if the two are of different lengths
inline void stereo_coordinates(const Features& features, const std::vector<cv::KeyPoint>& undistorted,
                               float baseline_times_focal, std::vector<float>& right, std::vector<float>& depth) {
    if (undistorted.size() != features.keypoints.size()) {
        throw std::invalid_argument("there must be one undistorted keypoint for each feature");
    }
    right.assign(undistorted.size(), -1.0F);
    depth.assign(undistorted.size(), -1.0F);
    for (std::size_t index = 0; index < undistorted.size(); ++index) {
        const float metres = features.depths[index];
        if (std::isfinite(metres) && metres > 0.0F) {
            depth[index] = metres;
            right[index] = features.right_u[index] >= 0.0F ? features.right_u[index]
                                                           : undistorted[index].pt.x - baseline_times_focal / metres;
        }
    }
}

}  // namespace gcnv2

#endif  // GCNV2_MESSAGE_EXTRACTOR_HPP
