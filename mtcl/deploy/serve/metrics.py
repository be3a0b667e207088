"""Counters and histograms under the names of TEI, so that its dashboards work.

prometheus-client appends `_total` to the names of counters. TEI does not, so `text` removes it. With several workers,
each writes its values into files of one folder (`PROMETHEUS_MULTIPROC_DIR`), and `/metrics` of any worker has the sum.
"""

from __future__ import annotations

import os
import re

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = tuple(0.001 * 2**n for n in range(16))
"""1 ms to 33 s."""
TOKENS = tuple(2**n for n in range(2, 17))
SIZES = tuple(2**n for n in range(13))
_TOTAL = re.compile(rb"^(# (?:HELP|TYPE) )?(te_\w+?)_total\b", flags=re.MULTILINE)


class Metrics:
    """The metrics of one worker. `request_*` are per HTTP request, `embed_*` per text."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(name, what, labels, registry=self.registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(name, what, registry=self.registry, buckets=buckets)

        self.request_count = counter("te_request_count", "Requests for embeddings", "method")
        self.request_success = counter("te_request_success", "Requests answered with embeddings", "method")
        self.request_failure = counter("te_request_failure", "Requests refused or failed, by reason", "err")
        self.request_duration = histogram("te_request_duration", "Seconds from a request to its answer")
        self.tokenization_duration = histogram("te_request_tokenization_duration", "Seconds of tokenisation")
        self.queue_duration = histogram("te_request_queue_duration", "Seconds in the queue until the first batch")
        self.inference_duration = histogram("te_request_inference_duration", "Seconds from the first batch to the last")
        self.input_length = histogram("te_request_input_length", "Tokens of a text after truncation", TOKENS)
        self.embed_count = counter("te_embed_count", "Texts accepted")
        self.embed_success = counter("te_embed_success", "Texts embedded")
        self.embed_duration = histogram("te_embed_duration", "Seconds from acceptance to vectors, by request")
        self.batch_size = histogram("te_batch_next_size", "Texts of a batch", SIZES)
        self.batch_tokens = histogram("te_batch_next_tokens", "Tokens of a batch", TOKENS)
        self.queue_size = Gauge(
            "te_queue_size", "Texts accepted and not yet answered", registry=self.registry, multiprocess_mode="livesum"
        )

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        registry = self.registry
        if os.environ.get(FOLDER):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return _TOTAL.sub(rb"\1\2", generate_latest(registry))
