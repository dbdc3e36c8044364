"""Evaluation: ranks, metrics with intervals, comparisons, tables, plots, and a picture of what a model finds."""

from __future__ import annotations

from ccr_adapters.evaluation.contact_sheet import ResultBlock, contact_sheet
from ccr_adapters.evaluation.evaluator import evaluate_retrieval, protocol_line
from ccr_adapters.evaluation.fusion import fused
from ccr_adapters.evaluation.intervals import metric_intervals
from ccr_adapters.evaluation.metrics import (
    PRIMARY_METRIC,
    DirectionMetrics,
    RetrievalMetrics,
    mean_average_recall,
)
from ccr_adapters.evaluation.plots import rank_histogram, recall_bars, save_figure
from ccr_adapters.evaluation.ranks import Positives, average_precision, rank_and_precision
from ccr_adapters.evaluation.records import Record, compare_records, read_record, write_record
from ccr_adapters.evaluation.report import console_table, markdown_table, write_metrics
from ccr_adapters.evaluation.resampling import RetrievalRanks
from ccr_adapters.evaluation.significance import Comparison, paired_bootstrap
from ccr_adapters.evaluation.space_plots import MapPanel, language_map, similarity_heatmap

__all__ = [
    "PRIMARY_METRIC",
    "Comparison",
    "DirectionMetrics",
    "MapPanel",
    "Positives",
    "Record",
    "ResultBlock",
    "RetrievalMetrics",
    "RetrievalRanks",
    "average_precision",
    "compare_records",
    "console_table",
    "contact_sheet",
    "evaluate_retrieval",
    "fused",
    "language_map",
    "markdown_table",
    "mean_average_recall",
    "metric_intervals",
    "paired_bootstrap",
    "protocol_line",
    "rank_and_precision",
    "rank_histogram",
    "read_record",
    "recall_bars",
    "save_figure",
    "similarity_heatmap",
    "write_metrics",
    "write_record",
]
