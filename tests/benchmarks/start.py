"""Start a run on many large tasks with existing stores: seconds until the first batch is ready, and bytes read.

    python -m tests.benchmarks.start [--tasks 8] [--rows 1000000] [--ranks 1 2] [--folder FOLDER]

Each task is a Parquet file of texts of six words with one of 200 labels, and 200 characters in a column that no pair
reads. The tokenizer belongs to a tiny BERT. Stores are built once; then each number of ranks starts three times. Each
rank runs in its own process and calls the DataModule as Lightning does: `prepare_data` on the first rank while the
others wait, then `setup` and the first batch on all ranks. Imports and the model are not counted. `--folder` is kept,
and its data and stores are used again.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = [*LETTERS, "red", "green", "blue", "dog", "cat", "bird", "post", "job", "news", "query"]
TASK = '''
from mtcl import MRR, Files, LabelText, Task


class Posts(Task):
    """A post -> its label."""

    name = "{name}"
    data = Files("{name}")
    pairs = LabelText()
    metric = MRR()
    sample = [{{"text": "a", "label": "b"}}]
'''
STARTS = 3


def write(folder: Path, *, tasks: int, rows: int) -> None:
    """Write data, task files and an encoder."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    from transformers import BertConfig, BertModel, BertTokenizerFast

    model = folder / "model"
    model.mkdir(parents=True)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *(f"##{letter}" for letter in LETTERS)]
    (model / "vocab.txt").write_text("\n".join(pieces))
    BertTokenizerFast(vocab=str(model / "vocab.txt")).save_pretrained(model)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(pieces), **sizes), add_pooling_layer=False).save_pretrained(model)
    (folder / "tasks").mkdir()
    for number in range(tasks):
        name = f"posts_{number}"
        (folder / "tasks" / f"{name}.py").write_text(TASK.format(name=name))
        (folder / "data" / name).mkdir(parents=True)
        for split, size in (("train", rows), ("validation", 1000)):
            generator = np.random.default_rng(number)
            drawn = pa.array(WORDS).take(pa.array(generator.integers(len(WORDS), size=size * 6)))
            words = pa.ListArray.from_arrays(pa.array(np.arange(0, size * 6 + 1, 6, dtype=np.int32)), drawn)
            labels = pc.binary_join_element_wise(
                "job", pa.array(generator.integers(200, size=size)).cast("string"), " "
            )
            notes = [generator.bytes(100).hex() for _ in range(size)]
            table = pa.table({"text": pc.binary_join(words, " "), "label": labels, "note": notes})
            pq.write_table(table, folder / "data" / name / f"{split}.parquet")
    time.sleep(3)  # digests of files that have just been written are not remembered


def start(folder: Path, *, rank: int, ranks: int) -> None:
    """Print the seconds of one rank and the MiB that it read."""
    import torch
    import torch.distributed as dist

    from mtcl.encoder.config import EncoderConfig
    from mtcl.training.datamodule import MtclDataModule
    from mtcl.training.task_config import TaskConfig

    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=ranks)
    data = MtclDataModule(
        root=str(folder / "data"),
        tasks={path.stem: TaskConfig() for path in sorted((folder / "tasks").glob("*.py"))},
        encoder=EncoderConfig(name=str(folder / "model")),
        tasks_dir=str(folder / "tasks"),
        max_length=16,
        num_workers=0,
    )
    trainer = {"max_steps": 100, "accumulate_grad_batches": 1, "global_step": 0, "check_val_every_n_epoch": None}
    trainer |= {"val_check_interval": 100, "global_rank": rank, "world_size": ranks}
    stage, strategy = SimpleNamespace(value="fit"), SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(**trainer, state=SimpleNamespace(fn=stage), strategy=strategy)  # type: ignore[assignment]
    before, begun = bytes_read(), time.perf_counter()
    if rank == 0:
        data.prepare_data()
    if ranks > 1:
        dist.barrier()
    data.setup("fit")
    next(iter(data.train_dataloader()))
    print(time.perf_counter() - begun, (bytes_read() - before) / 2**20)


def bytes_read() -> int:
    """Bytes that this process has read from files so far, cached or not, without pages of mapped files."""
    return int(Path("/proc/self/io").read_text().split()[1])


def begin(folder: Path, ranks: int) -> tuple[float, float]:
    """Start this many ranks: seconds of the slowest rank, and MiB that all ranks read."""
    (folder / "meeting").unlink(missing_ok=True)
    environment = os.environ | {"MTCL_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--folder", str(folder), "--ranks", str(ranks), "--rank"]
    started = [
        subprocess.Popen([*command, str(rank)], env=environment, stdout=subprocess.PIPE, text=True)
        for rank in range(ranks)
    ]
    figures = [[float(x) for x in one.communicate()[0].split()[-2:]] for one in started]
    return max(seconds for seconds, _ in figures), sum(mib for _, mib in figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank is not None:
        start(options.folder, rank=options.rank, ranks=options.ranks[0])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        if not (folder / "tasks").is_dir():
            write(folder, tasks=options.tasks, rows=options.rows)
        size = sum(path.stat().st_size for path in (folder / "data").rglob("*.parquet")) / 2**20
        print(f"{size:,.0f} MiB of data; first start {begin(folder, 1)[0]:.1f} s")
        for ranks in options.ranks:
            starts = [begin(folder, ranks) for _ in range(STARTS)]
            seconds, mib = (statistics.median(values) for values in zip(*starts, strict=True))
            print(f"{ranks} ranks: {seconds:.2f} s, {mib:,.0f} MiB read")


if __name__ == "__main__":
    main()
