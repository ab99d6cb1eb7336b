# SPDX-License-Identifier: Apache-2.0
"""How long everything takes: stage by stage, runtime by runtime, beside its peers, and through the real node."""
