"""Evaluation: datasets, scorers, results an item, and whether two recipes differ."""

from __future__ import annotations

from .embedded import EMBEDDED_TASKS, embedded_dataset, right_path
from .evaluate import evaluate
from .items import Dataset, Item
from .reading import read_dataset
from .results import Evaluation, ItemResult, read_evaluation, table
from .scorers import Scorer, find_scorer
from .statistics import Difference, Interval, interval, paired

__all__ = [
    "Dataset",
    "Difference",
    "EMBEDDED_TASKS",
    "Evaluation",
    "Interval",
    "Item",
    "ItemResult",
    "Scorer",
    "embedded_dataset",
    "evaluate",
    "find_scorer",
    "interval",
    "paired",
    "read_dataset",
    "read_evaluation",
    "right_path",
    "table",
]
