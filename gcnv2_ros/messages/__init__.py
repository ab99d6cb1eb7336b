# SPDX-License-Identifier: Apache-2.0
"""What image messages hold, from rclpy or from a bag reader: no ROS is needed to read them."""
