# SPDX-License-Identifier: Apache-2.0
"""How good features are: matching accuracy, repeatability, homographies, relative pose, roll, tilt."""
