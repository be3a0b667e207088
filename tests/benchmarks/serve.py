"""The server under load on loopback, against `TextEncoder.encode` on the same texts in alternating runs.

    python -m tests.benchmarks.serve RUN --data FOLDER [--seconds 60] [--rounds 3] [--items 8] [--connections 32]
        [--threads 1] [--route openai] [--client own]
    python -m tests.benchmarks.serve tiny --data FOLDER --requests 200000 --items 1     # memory over many requests
    python -m tests.benchmarks.serve RUN --data FOLDER --requests 200000 --items 1 --words 12    # of shorter texts
    python -m tests.benchmarks.serve RUN --data FOLDER --items 1 --requests 320 --trees OTHER_CHECKOUT .

`own` is an asyncio client on raw connections in a process of its own, because it takes the least time from the server
on a machine of few cores. `locust` runs locust's FastHttpUser instead (`pip install locust`, best in another
environment: give its interpreter as --locust "PYTHON -m locust"). Texts are those of the training rows of a data root.
RUN is what `mtcl serve` takes, or tiny: an encoder of 2 layers and 32 dimensions.
With --trees, servers of several checkouts (before and after a change) take turns.
"CPU ratio" is the CPU time of `encode` per text over that of the whole server process: it does not count waiting for
other processes, so it holds on a busy machine, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mtcl.console import markdown_table
from mtcl.encoder.text_encoder import TextEncoder
from tests.benchmarks.encoders import encoder_of

TASKS = ("stackexchange_search", "interest_topics", "storyline_news", "hashtags", "duplicate_questions")
TEXT_COLUMNS = ("text", "query", "positive", "anchor")
ROUTES = {"openai": "/v1/embeddings", "tei": "/embed"}
NUM_BODIES = 256
"""Distinct request bodies, sent in turn."""


@dataclass(frozen=True)
class Load:
    """The figures of one run: seconds per request, errors by kind, and how long the run took."""

    latencies: list[float]
    errors: dict[str, int]
    seconds: float

    @property
    def num_requests(self) -> int:
        return len(self.latencies)

    def percentile_ms(self, share: float) -> float:
        return float(np.percentile(self.latencies, share)) * 1e3


def texts_of(root: Path, num: int, *, words: int | None = None, seed: int = 0) -> list[str]:
    """Texts of several tasks, shuffled; each cut at random to 1 to `words` words, if given."""
    found: list[str] = []
    for task in TASKS:
        table = pq.read_table(root / task / "train.parquet")
        for name in table.column_names:
            if name in TEXT_COLUMNS and pa.types.is_string(table.schema.field(name).type):
                found += [text for text in table[name].to_pylist()[:num] if text]
    chance = random.Random(seed)
    chance.shuffle(found)
    if words is not None:
        return [" ".join(text.split()[: chance.randint(1, words)]) for text in found[:num]]
    return found[:num]


def bodies_of(texts: list[str], items: int, route: str) -> list[bytes]:
    """Request bodies of `items` texts each."""
    groups = [texts[start : start + items] for start in range(0, items * NUM_BODIES, items)]
    if route == "tei":
        return [json.dumps({"inputs": group}).encode() for group in groups]
    return [json.dumps({"input": group, "encoding_format": "base64"}).encode() for group in groups]


@contextmanager
def server(run: str, threads: int, *options: str, path: str | None = None) -> Iterator[tuple[int, str, int]]:
    """`mtcl serve` in a process of its own, of the checkout `path` if given: (process id, host, port)."""
    words = [sys.executable, "-m", "mtcl", "serve", run, "--port", "0", "--threads", str(threads), *options]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    if path is not None:
        environment |= {"PYTHONPATH": str(Path(path).resolve())}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment, cwd=path)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://([\d.]+):(\d+)", line)
        assert found, "the server did not start"
        yield process.pid, found[1], int(found[2])
    finally:
        process.terminate()
        print(f"server ended with exit code {process.wait()}", file=sys.stderr)


def memory_mib(pid: int) -> float:
    """A process's memory without mapped files."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"RssAnon:\s+(\d+)", status)[0]) / 1024


async def send_load(host: str, port: int, route: str, bodies: list[bytes], options: dict[str, Any]) -> Load:
    """Requests from several connections, each sending the next one when it has an answer."""
    latencies: list[float] = []
    errors: dict[str, int] = {}
    until = time.monotonic() + options["seconds"]
    left = options["requests"]
    head = f"POST {ROUTES[route]} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "

    async def client(number: int) -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection(host, port)
        turn = number * 7
        while time.monotonic() < until and left > 0:
            left -= 1
            body = bodies[turn % len(bodies)]
            turn += 1
            began = time.perf_counter()
            writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            size = int(re.findall(rb"content-length: (\d+)", answer.lower())[0])
            await reader.readexactly(size)
            if answer[9:12] == b"200":
                latencies.append(time.perf_counter() - began)
            else:
                errors[answer[9:12].decode()] = errors.get(answer[9:12].decode(), 0) + 1
        writer.close()

    started = time.monotonic()
    done = await asyncio.gather(*(client(n) for n in range(options["connections"])), return_exceptions=True)
    for error in filter(None, done):
        errors[type(error).__name__] = errors.get(type(error).__name__, 0) + 1
    return Load(latencies, errors, time.monotonic() - started)


def run_own(host: str, port: int, route: str, texts: list[str], options: dict[str, Any]) -> Load:
    """`send_load` in a process of its own, so that it does not share this one's interpreter and memory."""
    given = {"host": host, "port": port, "route": route, "texts": texts, "options": options}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(given, file)
        file.flush()
        words = [sys.executable, "-m", "tests.benchmarks.serve", "--send", file.name]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return Load(**json.loads(done.stdout))


def run_locust(host: str, port: int, route: str, texts: list[str], options: dict[str, Any]) -> Load:
    """Locust's own figures; its percentiles stand for all latencies."""
    with tempfile.TemporaryDirectory() as folder:
        bodies = Path(folder) / "bodies.json"
        bodies.write_text(json.dumps([body.decode() for body in bodies_of(texts, options["items"], route)]))
        environment = os.environ | {"MTCL_BODIES": str(bodies), "MTCL_ROUTE": ROUTES[route], "PYTHONPATH": ""}
        environment |= {"PYTHONPATH": options["locust_path"]} if options["locust_path"] else {}
        words = [*shlex.split(options["locust"]), "-f", str(Path(__file__).with_name("serve_locust.py")), "--headless"]
        words += ["-u", str(options["connections"]), "-r", str(options["connections"]), "--json", "--only-summary"]
        words += ["-t", f"{round(options['seconds'])}s", "-s", "30", "-H", f"http://{host}:{port}"]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    (row,) = json.loads(done.stdout)
    counted = [float(ms) / 1e3 for ms, number in row["response_times"].items() for _ in range(number)]
    failures = {"failures": row["num_failures"]} if row["num_failures"] else {}
    return Load(counted, failures, row["last_request_timestamp"] - row["start_time"])


def cpu_seconds(pid: int) -> float:
    """CPU time of a process with all its threads."""
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def bulk(encoder: TextEncoder, texts: list[str], seconds: float) -> tuple[float, float]:
    """Texts per second, and per second of CPU time, of `TextEncoder.encode`."""
    done, began, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        some = texts[done % len(texts) :][:512]
        encoder.encode(some)
        done += len(some)
    return done / (time.perf_counter() - began), done / (time.process_time() - cpu)


def compare(options: argparse.Namespace) -> str:
    """Server and `encode` in turn."""
    texts = texts_of(options.data, NUM_BODIES * options.items)
    torch.set_num_threads(options.threads)
    encoder = TextEncoder.load(options.run)
    encoder.encode(texts[:64])
    send = {"own": run_own, "locust": run_locust}[options.client]
    each = options.seconds / options.rounds
    given = {**vars(options), "seconds": each, "requests": 1 << 62}
    given = {key: value for key, value in given.items() if isinstance(value, str | int | float | None)}
    rows, all_latencies = [], []
    with server(options.run, options.threads, *shlex.split(options.server_options)) as (pid, host, port):
        send(host, port, options.route, texts, given | {"seconds": 3})
        for number in range(options.rounds):
            plain, plain_cpu = bulk(encoder, texts, each / 3)
            cpu = cpu_seconds(pid)
            load = send(host, port, options.route, texts, given)
            served = load.num_requests * options.items / load.seconds
            all_latencies += load.latencies
            served_cpu = load.num_requests * options.items / (cpu_seconds(pid) - cpu)
            errors = sum(load.errors.values())
            ms = [f"{load.percentile_ms(share):.0f}" for share in (50, 99)]
            rows.append(
                (
                    number + 1,
                    load.num_requests,
                    errors,
                    f"{served:.0f}",
                    f"{plain:.0f}",
                    served / plain,
                    served_cpu / plain_cpu,
                    *ms,
                )
            )
            print(rows[-1], load.errors, f"{memory_mib(pid):.0f} MiB", file=sys.stderr)
    medians = [statistics.median(row[column] for row in rows) for column in (5, 6)]
    shown = [[*row[:5], f"{row[5]:.2f}", f"{row[6]:.2f}", *row[7:]] for row in rows]
    head = ["round", "requests", "errors", "texts/s", "encode texts/s", "ratio", "CPU ratio", "p50 ms", "p99 ms"]
    table = markdown_table(head, shown, numbers=range(9))
    ms = ", ".join(f"p{share} {np.percentile(all_latencies, share) * 1e3:.0f} ms" for share in (50, 99))
    return f"{table}\nmedian ratio {medians[0]:.2f}, median CPU ratio {medians[1]:.2f}, {ms} over all rounds\n"


def watch_memory(options: argparse.Namespace) -> str:
    """The server's memory after each tenth of many requests."""
    texts = texts_of(options.data, NUM_BODIES * options.items, words=options.words)
    rows = []
    with server(options.run, options.threads, *shlex.split(options.server_options)) as (pid, host, port):
        given = {"seconds": 3600.0, "connections": options.connections, "items": options.items}
        for part in range(11):
            num = options.requests // 10 if part else options.requests // 100
            load = run_own(host, port, options.route, texts, given | {"requests": num})
            errors = sum(load.errors.values())
            rows.append((part, load.num_requests, errors, f"{memory_mib(pid):.1f}", f"{num / load.seconds:.0f}"))
            print(rows[-1], file=sys.stderr)
    return markdown_table(["part", "requests", "errors", "MiB", "requests/s"], rows, numbers=range(5))


def texts_and_batches(host: str, port: int) -> tuple[float, float]:
    """Texts embedded so far, and batches."""
    with urlopen(f"http://{host}:{port}/metrics") as answer:
        text = answer.read().decode()
    found = [re.findall(rf"^te_batch_next_size_{name} (\S+)", text, re.MULTILINE)[0] for name in ("sum", "count")]
    return float(found[0]), float(found[1])


def compare_trees(options: argparse.Namespace) -> str:
    """CPU time per request of the servers of several checkouts, in turn, and of `encode` per text."""
    texts = texts_of(options.data, NUM_BODIES * options.items)
    torch.set_num_threads(options.threads)
    encoder = TextEncoder.load(options.run)
    given = {"seconds": 3600.0, "connections": options.connections, "items": options.items}
    rows = []
    with ExitStack() as stack:
        run = str(Path(options.run).resolve())  # servers start in their checkouts
        servers = [stack.enter_context(server(run, options.threads, path=tree)) for tree in options.trees]
        for number in range(options.rounds + 1):  # the first one warms up
            for tree, (pid, host, port) in zip(options.trees, servers, strict=True):
                before, cpu = texts_and_batches(host, port), cpu_seconds(pid)
                load = run_own(host, port, options.route, texts, given | {"requests": options.requests})
                cpu, after = cpu_seconds(pid) - cpu, texts_and_batches(host, port)
                ms, size = cpu / load.num_requests * 1e3, (after[0] - before[0]) / (after[1] - before[1])
                rows.append(
                    (number, tree, f"{ms:.2f}", f"{size:.1f}", sum(load.errors.values()), f"{memory_mib(pid):.0f}")
                )
                print(rows[-1], file=sys.stderr)
            plain_cpu = bulk(encoder, texts, options.seconds / 3)[1]
            rows.append((number, "encode, per text", f"{1e3 / plain_cpu:.2f}", "", "", ""))
    return markdown_table(["round", "", "CPU ms", "texts per batch", "errors", "MiB"], rows[len(options.trees) + 1 :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--route", choices=sorted(ROUTES), default="openai")
    parser.add_argument("--client", choices=["own", "locust"], default="own")
    parser.add_argument("--locust", default=f"{sys.executable} -m locust", help="the command that starts locust")
    parser.add_argument("--locust_path", default="", help="folder of locust's package, if it is not installed")
    parser.add_argument(
        "--requests", type=int, help="watch the memory over so many requests instead; per round of --trees"
    )
    parser.add_argument("--words", type=int, help="with --requests: cut each text at random to 1 to so many words")
    parser.add_argument("--trees", nargs="+", help="compare the CPU time of these checkouts' servers instead")
    parser.add_argument("--server_options", default="", help="more options of mtcl serve")
    parser.add_argument("--send", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.send:
        given = json.loads(Path(options.send).read_text())
        bodies = bodies_of(given["texts"], given["options"]["items"], given["route"])
        load = asyncio.run(send_load(given["host"], given["port"], given["route"], bodies, given["options"]))
        print(json.dumps(vars(load)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.run = encoder_of(Path(folder), "tiny") if options.run == "tiny" else options.run
        measure = compare_trees if options.trees else watch_memory if options.requests else compare
        print(measure(options))


if __name__ == "__main__":
    main()
