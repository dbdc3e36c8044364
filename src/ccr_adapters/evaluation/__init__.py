"""Evaluation: ranks, metrics with intervals, comparisons, tables, and a picture of what a model finds."""

from __future__ import annotations

from ccr_adapters.evaluation.contact_sheet import ResultBlock, contact_sheet
from ccr_adapters.evaluation.evaluator import evaluate_retrieval, protocol_line
from ccr_adapters.evaluation.fusion import fused
from ccr_adapters.evaluation.metrics import (
    PRIMARY_METRIC,
    DirectionMetrics,
    RetrievalMetrics,
    mean_average_recall,
)
from ccr_adapters.evaluation.ranks import Positives, average_precision, rank_and_precision
from ccr_adapters.evaluation.report import console_table, markdown_table, write_metrics
from ccr_adapters.evaluation.resampling import RetrievalRanks
from ccr_adapters.evaluation.significance import Comparison, paired_bootstrap

__all__ = [
    "PRIMARY_METRIC",
    "Comparison",
    "DirectionMetrics",
    "Positives",
    "ResultBlock",
    "RetrievalMetrics",
    "RetrievalRanks",
    "average_precision",
    "console_table",
    "contact_sheet",
    "evaluate_retrieval",
    "fused",
    "markdown_table",
    "mean_average_recall",
    "paired_bootstrap",
    "protocol_line",
    "rank_and_precision",
    "write_metrics",
]
