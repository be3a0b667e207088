"""Metrics over ranked pools, declared by tasks: `metric = NDCG(k=10)`."""

from mtcl.metrics.retrieval import MAP, MRR, NDCG, Accuracy, Metric, Recall

__all__ = ["MAP", "MRR", "NDCG", "Accuracy", "Metric", "Recall"]
