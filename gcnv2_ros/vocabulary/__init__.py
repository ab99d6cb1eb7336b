# SPDX-License-Identifier: Apache-2.0
"""Binary vocabularies in DBoW2's formats: train, read, write, compare images by their words.

Galvez-Lopez, Tardos, "Bags of Binary Words for Fast Place Recognition in Image Sequences", T-RO 2012.
"""

from __future__ import annotations

from .description import VocabularyDescription, load_description, save_description, shipped_vocabularies
from .query import BagOfWords, bag_of_words, l1_score, l1_scores, shared_nodes
from .storage import load_vocabulary, save_vocabulary
from .train import train_vocabulary
from .tree import Scoring, Vocabulary, VocabularyError, Weighting

__all__ = [
    "BagOfWords",
    "Scoring",
    "Vocabulary",
    "VocabularyDescription",
    "VocabularyError",
    "Weighting",
    "bag_of_words",
    "l1_score",
    "l1_scores",
    "load_description",
    "load_vocabulary",
    "save_description",
    "save_vocabulary",
    "shared_nodes",
    "shipped_vocabularies",
    "train_vocabulary",
]
