# SPDX-License-Identifier: Apache-2.0
"""Training of the networks: pictures and pairs, losses, the loop, export."""
