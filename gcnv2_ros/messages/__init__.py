# SPDX-License-Identifier: Apache-2.0
"""What messages with images and clouds of points hold, from rclpy or from a bag reader: no ROS is needed for it."""
