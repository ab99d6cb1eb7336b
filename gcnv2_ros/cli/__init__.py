# SPDX-License-Identifier: Apache-2.0
"""The `gcnv2` command."""
