"""Losses of sentence-transformers, PyTorch and pytorch-metric-learning, and mtcl's loss for the same pairs."""

from __future__ import annotations

COUNTERPARTS = {
    "MultipleNegativesRankingLoss": "InfoNCE",
    "CachedMultipleNegativesRankingLoss": "InfoNCE",
    "MultipleNegativesSymmetricRankingLoss": "{class_path: InfoNCE, init_args: {directions: both}}",
    "CachedMultipleNegativesSymmetricRankingLoss": "{class_path: InfoNCE, init_args: {directions: both}}",
    "GISTEmbedLoss": "{class_path: InfoNCE, init_args: {guide: base}}",
    "CachedGISTEmbedLoss": "{class_path: InfoNCE, init_args: {guide: base}}",
    "TripletLoss": "InfoNCE",
    "CoSENTLoss": "CoSENT",
    "AnglELoss": "CoSENT",
    "CosineSimilarityLoss": "CoSENT",
    "ContrastiveLoss": "PairBCE",
    "OnlineContrastiveLoss": "PairBCE",
    "MSELoss": "TeacherMSE",
    "EmbedDistillLoss": "TeacherMSE",
    "MarginMSELoss": "MarginMSE",
    "DistillKLDivLoss": "DistillKL",
    "MatryoshkaLoss": "{class_path: Matryoshka, init_args: {loss: InfoNCE, dims: [128]}}",
    "GlobalOrthogonalRegularizationLoss": "{class_path: SpreadOut, init_args: {loss: InfoNCE}}",
    "CrossEntropyLoss": "InfoNCE",
    "CosineEmbeddingLoss": "PairBCE",
    "BCEWithLogitsLoss": "PairBCE",
    "KLDivLoss": "DistillKL",
    "TripletMarginLoss": "InfoNCE",
    "NTXentLoss": "InfoNCE",
    "SupConLoss": "{class_path: InfoNCE, init_args: {multi_positive: true}}",
}
"""Its name there -> ours, as in a configuration.

`CosineSimilarityLoss` fits the cosine to a score; CoSENT fits only the order of the scores. The contrastive losses use
labels 0 and 1, as PairBCE does. The negative of a triplet is a hard negative for InfoNCE.
"""


def no_loss_of_ours(name: str) -> str:
    """A message about one of these losses."""
    return f"{name!r} is not a loss of mtcl: give {COUNTERPARTS[name]}, its counterpart"
