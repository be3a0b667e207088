"""The parts of `tests/benchmarks/gpu.sh`, each a section of a Markdown report for a session on a GPU.

    python -m tests.benchmarks.gpu_parts mfu [--accelerator cpu --encoders tiny tiny_qwen3 --batch 4 --steps 2]

A part runs in one process and shares texts and encoders with the others through `--work`. A measurement that fails
costs its own row: the row shows the error, its traceback goes to standard error, and the part ends with exit code 1.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.profilers import Profiler
from torch.profiler import ProfilerActivity, profile

from mtcl.console import markdown_head, markdown_row
from mtcl.distributed import _Gather, sum_of_own_rows
from mtcl.encoder.hub import resolve_model
from mtcl.encoder.row_attention import has_varlen
from tests.benchmarks import systems, workload
from tests.benchmarks.encoders import encoder_of, installed_minilm, is_decoder
from tests.benchmarks.systems import Setting
from tests.benchmarks.throughput import peak_flops

BATCHES = {"qwen3": 64}
"""Pairs per task for encoders whose activations take much memory; `--batch` for the others."""
DECODER = {"train": "lora", "frozen_dtype": "bfloat16", "pooling": "last", "tokens_per_chunk": 16_384}
"""A decoder's options; a chunk's activations, about 2 MB per token of `qwen3`, must fit with recomputation too."""
PACKAGES = ("torch", "transformers", "lightning", "sentence-transformers", "peft")
SYNCS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")
"""Calls of CUDA in which the host waits for the device."""
READS = ("aten::item", "aten::_local_scalar_dense", "aten::nonzero")
"""Operations that read from the device if their tensor is there; on a CPU tensor they cost nothing."""
OPERATIONS = ("aten::", "autograd::", "Optimizer")
"""How the names of operations begin that show where an event belongs."""
MOST_HALVINGS = 3
LOSS_TOLERANCE = 1e-2


@dataclass
class Part:
    """A part's options, and the number of its measurements that failed."""

    options: argparse.Namespace
    num_failed: int = 0

    def head(self, *names: str) -> None:
        print(markdown_head(names), flush=True)

    def row(self, cells: Sequence[object], measure: Callable[..., Sequence[object]], *arguments: Any) -> None:
        """Print a row of `cells` and what `measure` finds."""
        try:
            with redirect_stdout(sys.stderr):  # transformers' trainer prints its own figures
                found = measure(*arguments)
        except Exception as error:  # a measurement that fails must not cost the others
            self.num_failed += 1
            traceback.print_exc()
            found = [f"{type(error).__name__}: {str(error).strip()[:200]}"]
        print(markdown_row([*cells, *found]), flush=True)
        clean()

    def setting(self, encoder: str, **changed: Any) -> Setting:
        """The four tasks with an encoder of `SHAPES`; a decoder is trained through adapters, in bfloat16."""
        options = self.options
        place = encoder_of(Path(options.work), encoder)
        own: dict[str, Any] = {"batch": min(options.batch, BATCHES.get(encoder, options.batch))}
        if is_decoder(encoder):
            own |= DECODER
        folder = texts_of(Path(options.work), options, place)
        common: dict[str, Any] = {
            "folder": str(folder),
            "root": str(folder / "data"),
            "tasks_dir": str(folder / "tasks"),
            "tasks": workload.TASKS,
            "encoder": place,
            "accelerator": options.accelerator,
            "steps": options.steps,
            "warmup": options.warmup,
        }
        return Setting(**common | own | changed)

    def bidirectional(self) -> list[str]:
        """The encoders that are no decoders."""
        return [name for name in self.options.encoders if not is_decoder(name)]

    def without_peft(self, encoder: str) -> bool:
        """Whether an encoder cannot be trained here; if so, says so."""
        if not is_decoder(encoder) or find_spec("peft") is not None:
            return False
        print(f"\n{encoder} is left out: peft is not installed\n", flush=True)
        return True


def texts_of(work: Path, options: argparse.Namespace, encoder: str) -> Path:
    """A folder with enough texts for each measurement, written once."""
    wanted = work / "texts"
    if not wanted.exists():
        written = work / f"texts.{os.getpid()}"  # renamed when complete: a time limit may end this process
        pairs = options.batch * (options.warmup + options.steps)
        workload.write(written, pairs=pairs, vocabulary=workload.vocabulary_of(resolve_model(encoder)))
        written.rename(wanted)
    return wanted


def clean() -> None:
    """Free what earlier measurements have left on the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def fitting(run: Callable[[Setting], dict[str, float]], setting: Setting) -> tuple[dict[str, float], Setting]:
    """What `run` finds, with half the batch as often as memory asks for, and the setting it ran with."""
    for _ in range(MOST_HALVINGS):
        try:
            return run(setting), setting
        except torch.OutOfMemoryError:
            setting = replace(setting, batch=setting.batch // 2)
        clean()
    return run(setting), setting


def rate(flops: float, accelerator: str) -> str:
    """TFLOP/s and the share of the peak."""
    peak = peak_flops(accelerator)
    return f"{flops / 1e12:.3g}" + (f" ({flops / peak:.1%})" if peak else "")


def gibibytes() -> str:
    """The most memory that tensors took since `clean`."""
    return f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if torch.cuda.is_available() else "-"


# Parts


def machine(part: Part) -> None:
    """Machine: versions, and the rate of one large matrix product, which no utilisation below can exceed."""
    part.head("", "")
    is_gpu = part.options.accelerator == "gpu"
    size = 8192 if is_gpu else 256
    part.row(["device"], _device, is_gpu)
    part.row(["CPU cores"], lambda: [len(os.sched_getaffinity(0))])
    part.row(["MiniLM's weights"], lambda: ["random" if installed_minilm() is None else "its own"])
    for name in PACKAGES:
        part.row([name], _version, name)
    part.row([f"bf16 product of {size} x {size}, TFLOP/s"], _product_rate, size, part.options.accelerator)


def _device(is_gpu: bool) -> list[str]:
    return [torch.cuda.get_device_name() if is_gpu else f"CPU, {torch.get_num_threads()} threads"]


def _version(package: str) -> list[str]:
    try:
        return [version(package)]
    except PackageNotFoundError:
        return ["not installed"]


def _product_rate(size: int, accelerator: str) -> list[str]:
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    a = torch.randn(size, size, dtype=torch.bfloat16, device=device)
    for _ in range(3):
        a @ a
    systems.synchronize(device)
    start = time.perf_counter()
    for _ in range(10):
        a @ a
    systems.synchronize(device)
    return [rate(10 * 2 * size**3 / (time.perf_counter() - start), accelerator)]


def mfu(part: Part) -> None:
    """Model FLOP utilisation: whole training steps of the four tasks, and the bare loop of the same chunks.

    FLOP of the model only: no padding, no recomputation, no weight gradients of frozen weights.
    """
    part.head("encoder", "trains", "dropout", "pairs per task", "mtcl pairs/s", "TFLOP/s", "bare TFLOP/s", "GiB")
    for encoder in part.options.encoders:
        if part.without_peft(encoder):
            continue
        setting = part.setting(encoder, steps=2 * part.options.steps)
        ways = [replace(setting, dropout=0.0), setting]
        if is_decoder(encoder):  # it has no dropout, and activations that fill the memory
            checkpointed = replace(setting, batch=part.options.batch // 2, activation_checkpointing=True)
            ways = [setting, checkpointed]
        for one in ways:
            trains = one.train + (", recomputing" if one.activation_checkpointing else "")
            shown = "as shipped" if one.dropout is None else f"{one.dropout:g}"
            part.row([encoder, trains, shown], _utilisation, one)


def _utilisation(setting: Setting) -> list[str]:
    found, used = fitting(systems.mtcl, setting)
    memory = gibibytes()
    clean()
    loop = systems.bare(used)
    rates = [rate(one["flops"], setting.accelerator) for one in (found, loop)]
    return [str(used.batch), f"{found['pairs']:.0f}", *rates, memory]


def attention(part: Part) -> None:
    """Attention: padded sdpa against unpadded, in the bare loop, by tokens per chunk (dropout 0)."""
    if not has_varlen():
        print("torch's flash attention does not run here, so unpadded attends among padded texts.\n")
    rates = ("sdpa TFLOP/s", "unpadded TFLOP/s", "unpadded / sdpa")
    part.head("encoder", "tokens per chunk", "chunks per step", "ms per chunk, sdpa", *rates, "GiB", "GiB")
    for encoder in part.bidirectional():
        for tokens in part.options.chunks:
            setting = part.setting(encoder, tokens_per_chunk=tokens, dropout=0.0)
            part.row([encoder, tokens], _both_attentions, setting)


def _both_attentions(setting: Setting) -> list[str]:
    found, memory = [], []
    for name in ("sdpa", "unpadded"):
        clean()
        found.append(systems.bare(replace(setting, attention=name)))
        memory.append(gibibytes())
    flops = [one["flops"] for one in found]
    chunks = [f"{found[0]['chunks']:.1f}", f"{1e3 * found[0]['seconds_per_chunk']:.1f}"]
    return [*chunks, *(rate(one, setting.accelerator) for one in flops), f"{flops[1] / flops[0]:.2f}", *memory]


def loader(part: Part) -> None:
    """Loader: the share of a step in which the training process waits for the next batch.

    The device is waited for after each step, so this is time in which it has no work. Workers have up to two batches
    each in store when timing starts, so it takes three times the steps.
    """
    part.head("encoder", "workers", "ms per step", "ms of waiting", "share", "slowest wait, ms", "pairs/s")
    for encoder in part.bidirectional():
        for workers in (1, 4):
            setting = part.setting(encoder, num_workers=workers, steps=3 * part.options.steps)
            part.row([encoder, workers], _waiting, setting)


class Waits(Profiler):
    """Seconds that Lightning's training loop waits for each next batch."""

    def __init__(self) -> None:
        super().__init__()
        self.began = 0.0
        self.seconds: list[float] = []

    def start(self, action_name: str) -> None:
        if action_name.endswith("train_dataloader_next"):
            self.began = time.perf_counter()

    def stop(self, action_name: str) -> None:
        if action_name.endswith("train_dataloader_next"):
            self.seconds.append(time.perf_counter() - self.began)


class Steps(pl.Callback):
    """The time and the loss at the end of each step, for which the device is waited for."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *arguments: Any) -> None:
        self.losses.append(float(outputs["loss"]))
        systems.synchronize(trainer.strategy.root_device)
        self.ends.append(time.perf_counter())


def _waiting(setting: Setting) -> list[str]:
    steps, waits = Steps(), Waits()
    systems.fit(setting, steps, profiler=waits)
    seconds = steps.ends[-1] - steps.ends[setting.warmup - 1]
    waited = waits.seconds[setting.warmup :]
    of_step = [1e3 * one / setting.steps for one in (seconds, sum(waited))]
    shown = [f"{one:.1f}" for one in of_step]
    return [*shown, f"{sum(waited) / seconds:.1%}", f"{1e3 * max(waited):.1f}", f"{setting.num_pairs / seconds:.0f}"]


def syncs(part: Part) -> None:
    """Syncs: how often the host waits for the device in a training step, by torch.profiler.

    Of the device synchronisations, one in all is the profiler's own. On a CPU, only the reads are there to count.
    """
    encoder = part.options.encoders[0]
    setting = part.setting(encoder, dropout=0.0, steps=min(5, part.options.steps))
    window = Window(setting)
    systems.fit(setting, window)
    events = Events(window.profiler)
    of_name = Counter(events.names)
    part.head(f"event ({encoder})", f"in {setting.steps} steps", "per step")
    for name in (*SYNCS, *READS):
        print(markdown_row([f"`{name}`", of_name[name], f"{of_name[name] / setting.steps:.1f}"]))
    print()
    wanted = SYNCS if part.options.accelerator == "gpu" else READS[:1]
    part.head("times", "event", "where (innermost first)")
    where = Counter((name, events.place(n)) for n, name in enumerate(events.names) if name in wanted)
    for (name, place), number in where.most_common(12):
        print(markdown_row([number, f"`{name}`", place]), flush=True)


class Window(pl.Callback):
    """Profiles whole steps from the end of the last warm-up step on."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.num_ended = setting, 0
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        detailed = torch._C._profiler._ExperimentalConfig(verbose=True)  # without it, events have no stacks
        self.profiler = profile(activities=activities, with_stack=True, experimental_config=detailed)

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        self.num_ended += 1
        if self.num_ended == self.setting.warmup:
            systems.synchronize(trainer.strategy.root_device)
            self.profiler.start()
        elif self.num_ended == self.setting.num_steps:
            self.profiler.stop()


class Events:
    """The raw events of a profile: `profile.events()` takes a minute to make a tree of them."""

    def __init__(self, profiler: Any) -> None:
        self.raw = profiler.profiler.kineto_results.events()
        self.names = [event.name() for event in self.raw]
        self.begins = np.array([event.start_ns() for event in self.raw])
        self.ends = np.array([event.end_ns() for event in self.raw])
        self.threads = np.array([event.start_thread_id() % 2**63 for event in self.raw])

    def place(self, number: int) -> str:
        """The operations around an event, and the innermost lines of Python files; a few of each."""
        is_around = (self.begins <= self.begins[number]) & (self.ends >= self.ends[number])
        around = np.flatnonzero(is_around & (self.threads == self.threads[number]))
        if len(around) == 1:  # a call of CUDA may have no thread, or another numbering
            around = np.flatnonzero(is_around)
        inside_out = [int(n) for n in around[np.argsort((self.ends - self.begins)[around], kind="stable")]]
        frames: list[str] = next((stack for n in (number, *inside_out) if (stack := self.raw[n].stack())), [])
        lines = [frame.rpartition("/site-packages/")[2] for frame in frames if ".py(" in frame]
        own = [line for line in lines if "mtcl/" in line]
        operations = [self.names[n] for n in inside_out if n != number and self.names[n].startswith(OPERATIONS)]
        return " < ".join(dict.fromkeys([*operations[:3], *lines[:3], *own[:2]])) or "no stack"


def peer(part: Part) -> None:
    """sentence-transformers: pairs per second on the same texts, alternating, four loader workers each (dropout 0)."""
    if find_spec("sentence_transformers") is None or find_spec("accelerate") is None:
        print("Left out: sentence-transformers or accelerate is not installed.")
        return
    part.head("encoder", "pairs per task", "mtcl pairs/s", "sentence-transformers pairs/s", "mtcl / the other")
    for encoder in part.bidirectional():
        setting = part.setting(encoder, dropout=0.0, num_workers=min(4, part.options.batch))
        for _ in range(part.options.rounds):
            part.row([encoder], _ratio, setting)


def _ratio(setting: Setting) -> list[str]:
    theirs, used = fitting(systems.sentence_transformers, setting)
    clean()
    ours = systems.mtcl(used)["pairs"]
    return [str(used.batch), f"{ours:.0f}", f"{theirs['pairs']:.0f}", f"{ours / theirs['pairs']:.2f}"]


def ddp(part: Part) -> None:
    """Ranks: three steps under DDP, on this device alone and on two CPU processes (gloo), and the collectives."""
    small = {"batch": min(8, part.options.batch), "steps": 2, "warmup": 1, "strategy": "ddp"}
    part.head("what", "found")
    two = part.setting("tiny", **small | {"accelerator": "cpu", "ranks": 2})  # first: the other one sets MASTER_PORT
    part.row(["two ranks, cpu, gloo"], _two_ranks, two)
    setting = part.setting(part.options.encoders[0], **small)
    checks: dict[str, str] = {}
    part.row([f"one rank, {setting.accelerator}"], _one_rank, setting, checks)
    for name, found in checks.items():
        part.row([name], lambda one: [one], found)


def _two_ranks(setting: Setting) -> list[str]:
    return [f"ok, {systems.measure('mtcl', setting, threads=1)['pairs']:.1f} pairs/s"]


class Collectives(pl.Callback):
    """Runs the collectives of `mtcl.distributed` within the process group of a fit."""

    def __init__(self, found: dict[str, str]) -> None:
        self.found = found

    def on_train_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        rows = torch.arange(12.0, device=trainer.strategy.root_device).view(4, 3).requires_grad_()
        name = f"reduce_scatter, {dist.get_backend()}, {dist.get_world_size()} rank"
        own = sum_of_own_rows(rows.detach(), scatter=True)
        self.found[name] = "ok" if torch.equal(own, rows) else f"wrong: {own.tolist()}"
        _Gather.apply(rows).square().sum().backward()  # type: ignore[no-untyped-call]
        is_right = torch.equal(rows.grad, 2 * rows)  # type: ignore[arg-type]
        self.found["gather and its gradient"] = "ok" if is_right else f"wrong: {rows.grad}"


def _one_rank(setting: Setting, checks: dict[str, str]) -> list[str]:
    steps = Steps()
    systems.fit(setting, steps, Collectives(checks))
    wrong = [check for check in checks.values() if check != "ok"]
    if wrong or len(steps.losses) != setting.num_steps:
        raise RuntimeError(f"{len(steps.losses)} of {setting.num_steps} steps; {wrong}")
    return [f"ok, losses {', '.join(f'{loss:.4f}' for loss in steps.losses)}"]


def losses(part: Part) -> None:
    """Losses: five steps in bf16 against float32 on the CPU, same seed, dropout 0; at most 1e-2 apart."""
    encoder = part.options.encoders[0]
    common = {"dropout": 0.0, "batch": min(16, part.options.batch), "max_length": 64, "warmup": 1, "steps": 4}
    setting = part.setting(encoder, tokens_per_chunk=2048, **common)
    expected = _losses(replace(setting, accelerator="cpu", precision="32-true"))
    part.head(f"attention ({encoder})", *(f"step {n + 1}" for n in range(setting.num_steps)), "farthest", "")
    part.row(["CPU, float32"], lambda: [f"{loss:.4f}" for loss in expected])
    for name in ("sdpa", "unpadded"):
        part.row([f"{name}, bf16"], _compared, replace(setting, attention=name), expected)


def _losses(setting: Setting) -> list[float]:
    steps = Steps()
    systems.fit(setting, steps)
    return steps.losses


def _compared(setting: Setting, expected: list[float]) -> list[str]:
    found = _losses(setting)
    farthest = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    shown = [*(f"{loss:.4f}" for loss in found), f"{farthest:.4f}"]
    if not farthest <= LOSS_TOLERANCE:
        raise RuntimeError(f"farther apart than {LOSS_TOLERANCE}: {', '.join(shown)}")
    return [*shown, "ok"]


PARTS = {one.__name__: one for one in (machine, mfu, attention, loader, syncs, peer, ddp, losses)}


def main() -> None:
    options = arguments()
    run = PARTS[options.part]
    title, _, about = str(inspect.getdoc(run)).partition(": ")
    print(f"\n## {title}\n\n{about[0].upper()}{about[1:]}\n", flush=True)
    with tempfile.TemporaryDirectory() as name:
        options.work = options.work or name
        part = Part(options)
        run(part)
    sys.exit(1 if part.num_failed else 0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--work", help="folder of texts and encoders that parts share")
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="gpu")
    parser.add_argument("--encoders", nargs="+", default=["minilm", "base", "qwen3"])
    parser.add_argument("--chunks", nargs="+", type=int, default=[8192, 32_768, 131_072], help="tokens per chunk")
    parser.add_argument("--batch", type=int, default=256, help="pairs per task")
    parser.add_argument("--steps", type=int, default=10, help="timed steps")
    parser.add_argument("--warmup", type=int, default=3, help="steps before timing starts")
    parser.add_argument("--rounds", type=int, default=2, help="alternations with sentence-transformers")
    return parser.parse_args()


if __name__ == "__main__":
    main()
