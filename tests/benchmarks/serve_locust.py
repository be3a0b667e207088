"""The user that locust simulates for `tests.benchmarks.serve`: it sends the next body when it has an answer."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

from locust import FastHttpUser, task

BODIES = itertools.cycle(json.loads(Path(os.environ["MTCL_BODIES"]).read_text()))


class Client(FastHttpUser):
    @task
    def embed(self) -> None:
        self.client.post(os.environ["MTCL_ROUTE"], data=next(BODIES), headers={"content-type": "application/json"})
