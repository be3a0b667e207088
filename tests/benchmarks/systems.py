"""One measurement of whole training steps, in its own process: mtcl, the bare loop or sentence-transformers.

    python -m tests.benchmarks.systems '<json of a Setting and its system>'

All train one encoder with AdamW and InfoNCE of scale 20 on the pairs that mtcl's plan draws. mtcl trains all tasks in
each step, sentence-transformers one task per step (one data set per task, MultipleNegativesRankingLoss), so pairs per
second are compared. The bare loop only runs mtcl's packed chunks forward and backward and the optimiser's step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from mtcl.encoder.config import Pooling

WARMUP = 1
"""Steps of all tasks before timing starts."""


@dataclass(frozen=True)
class Setting:
    """What to train, and on what. `folder` has `encoder/` and gets the caches; `batch` is pairs per task."""

    folder: str
    root: str
    tasks_dir: str
    tasks: tuple[str, ...]
    encoder: str
    precision: str = "bf16-mixed"
    dropout: float | None = None
    batch: int = 64
    max_length: int = 256
    steps: int = 2
    ranks: int = 1
    accelerator: str = "cpu"
    tokens_per_chunk: int | None = None
    clock: str = "perf_counter"
    attention: str = "auto"
    warmup: int = WARMUP
    num_workers: int = 1
    strategy: str = "auto"
    pooling: Pooling | None = None
    train: Literal["all", "lora"] = "all"
    frozen_dtype: Literal["float32", "bfloat16"] = "float32"
    activation_checkpointing: bool = False
    compile: bool = False

    @property
    def num_steps(self) -> int:
        """Steps with those before timing starts."""
        return self.warmup + self.steps

    @property
    def num_pairs(self) -> int:
        """Pairs of the timed steps."""
        return self.steps * self.batch * self.ranks * len(self.tasks)

    def now(self) -> float:
        """Seconds on the clock of `time` with this name: on a shared machine process_time, with one thread."""
        seconds: float = getattr(time, self.clock)()
        return seconds


def measure(system: str, setting: Setting, *, threads: int) -> dict[str, float]:
    """Pairs per second, and model FLOP per second if the system counts them."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    environment["TOKENIZERS_PARALLELISM"] = (
        "false"  # sentence-transformers tokenises in forked workers, where the pool can hang
    )
    command = [sys.executable, "-m", "tests.benchmarks.systems", json.dumps({"system": system, **asdict(setting)})]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def data_of(setting: Setting) -> Any:
    """The DataModule with open stores."""
    from mtcl.training.datamodule import MtclDataModule
    from mtcl.training.task_config import TaskConfig

    data = MtclDataModule(
        root=setting.root,
        tasks={name: TaskConfig() for name in setting.tasks},
        encoder=encoder_config(setting),
        tasks_dir=setting.tasks_dir,
        batch_size=setting.batch * setting.ranks,
        max_length=setting.max_length,
        alpha=0.0,
        num_workers=setting.num_workers,
        cache=f"{setting.folder}/cache",
    )
    data.setup("fit")
    return data


def steps_of(data: Any, padding: float = 1.0) -> Any:
    """From step number to `StepBatch` of a single rank; `padding` is what a place of padding costs."""
    from mtcl.data.rows import TaskData
    from mtcl.data.steps import StepDataset

    tasks = [TaskData(data.store(name, "train")) for name in data.tasks]
    return StepDataset(data.plan, tasks, tokens_per_chunk=data.encoder_config.chunk_size(), padding=padding)


def encoder_config(setting: Setting) -> Any:
    from mtcl.encoder.config import EncoderConfig

    size = {} if setting.tokens_per_chunk is None else {"tokens_per_chunk": setting.tokens_per_chunk}
    return EncoderConfig(
        name=setting.encoder,
        dropout=setting.dropout,
        attention=setting.attention,
        pooling=setting.pooling,
        train=setting.train,
        frozen_dtype=setting.frozen_dtype,
        compile=setting.compile,
        **size,
    )


class Clock:
    """Times of the ends of steps, of which `per_step` train all tasks once.

    It waits for the device only at the start and the end of what is timed, because a device that is waited for in each
    step has no work queued.
    """

    def __init__(self, setting: Setting, *, per_step: int = 1) -> None:
        self.setting = setting
        self.first, self.last = setting.warmup * per_step, setting.num_steps * per_step
        self.times: list[float] = []

    def step(self, device: Any) -> None:
        """Call it after each optimizer step."""
        if len(self.times) + 1 in (self.first, self.last):
            synchronize(device)
        self.times.append(self.setting.now())

    @property
    def seconds(self) -> float:
        """Of the timed steps."""
        return self.times[self.last - 1] - self.times[self.first - 1]


def fit(setting: Setting, *callbacks: Any, **options: Any) -> tuple[Any, Any]:
    """The module and the data after training by Lightning; `options` of its Trainer."""
    import lightning.pytorch as pl

    from mtcl.training.module import MtclModule

    data = data_of(setting)
    module = MtclModule(
        encoder=encoder_config(setting),
        evaluate_base=False,
        activation_checkpointing=setting.activation_checkpointing,
    )
    chosen: dict[str, Any] = {
        "max_steps": setting.num_steps,
        "precision": setting.precision,
        "accelerator": setting.accelerator,
        "devices": setting.ranks,
        "strategy": "ddp" if setting.ranks > 1 else setting.strategy,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "gradient_clip_val": 1.0,
        "use_distributed_sampler": False,
        "limit_val_batches": 0,
    }
    pl.Trainer(**chosen | options, callbacks=list(callbacks)).fit(module, data)
    return module, data


def mtcl(setting: Setting) -> dict[str, float]:
    """mtcl, through Lightning."""
    import lightning.pytorch as pl
    import torch

    clock = Clock(setting)

    class Ends(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
            clock.step(trainer.strategy.root_device)

    module, data = fit(setting, Ends())
    flops = 0.0
    if setting.ranks == 1:
        steps = steps_of(data)
        per_token = flops_per_token(module.encoder)
        timed = range(setting.warmup, setting.num_steps)
        flops = sum(model_flops(module.encoder, steps[n].texts, per_token=per_token) for n in timed) / clock.seconds
    torch.cuda.empty_cache()
    return {"pairs": setting.num_pairs / clock.seconds, "flops": flops}


def bare(setting: Setting) -> dict[str, float]:
    """The same chunks without Lightning, loader, losses and TensorBoard; also their number in a step."""
    import torch

    from mtcl.encoder.encoder import Encoder

    device = torch.device("cuda" if setting.accelerator == "gpu" else "cpu")
    encoder = Encoder.load(encoder_config(setting)).to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=setting.precision == "bf16-mixed"):
        steps = steps_of(data_of(setting), encoder.cost_of_padding)
    batches = [steps[number] for number in range(setting.num_steps)]
    encoder.activation_checkpointing = setting.activation_checkpointing
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, fused=True)
    clock = Clock(setting)
    for batch in batches:
        texts = batch.texts.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=setting.precision == "bf16-mixed"):
            loss = encoder(texts)[:, 0].sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        clock.step(device)
    per_token = flops_per_token(encoder)
    timed = batches[setting.warmup :]
    flops = sum(model_flops(encoder, batch.texts, per_token=per_token) for batch in timed)
    chunks = sum(len(batch.texts.chunks) for batch in timed)
    return {
        "pairs": setting.num_pairs / clock.seconds,
        "flops": flops / clock.seconds,
        "chunks": chunks / setting.steps,
        "seconds_per_chunk": clock.seconds / chunks,
    }


def sentence_transformers(setting: Setting) -> dict[str, float]:
    """`SentenceTransformerTrainer` with its own loader and loss, on the pairs of the same steps."""
    import datasets
    import torch
    from sentence_transformers import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    clock = Clock(setting, per_step=len(setting.tasks))

    class Ends(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *arguments: Any, **options: Any) -> None:
            clock.step(model.device)

    model = peer(setting)
    count = setting.num_steps
    train = {name: datasets.Dataset.from_dict(texts) for name, texts in pairs_of_steps(setting, count).items()}
    arguments = SentenceTransformerTrainingArguments(
        output_dir=f"{setting.folder}/peer",
        max_steps=len(setting.tasks) * count,
        per_device_train_batch_size=setting.batch,
        multi_dataset_batch_sampler="round_robin",
        bf16=setting.precision == "bf16-mixed",
        use_cpu=setting.accelerator == "cpu",
        dataloader_num_workers=setting.num_workers,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        max_grad_norm=1.0,
    )
    loss = MultipleNegativesRankingLoss(model, scale=20.0)
    SentenceTransformerTrainer(model, arguments, train_dataset=train, loss=loss, callbacks=[Ends()]).train()
    torch.cuda.empty_cache()
    return {"pairs": setting.num_pairs / clock.seconds}


def peer(setting: Setting) -> Any:
    """The encoder in sentence-transformers, with mean pooling and unit length."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer

    from mtcl.encoder.hub import resolve_model

    backbone = Transformer(str(resolve_model(setting.encoder)), max_seq_length=setting.max_length)
    size = backbone.get_word_embedding_dimension()
    device = "cuda" if setting.accelerator == "gpu" else "cpu"
    model = SentenceTransformer(modules=[backbone, Pooling(size, "mean"), Normalize()], device=device)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout) and setting.dropout is not None:
            part.p = setting.dropout
    return model


def pairs_of_steps(setting: Setting, count: int) -> dict[str, dict[str, list[str]]]:
    """The texts of the pairs of the first `count` steps, by task."""
    data = data_of(setting)
    steps = steps_of(data)
    found: dict[str, dict[str, list[str]]] = {name: {"anchor": [], "positive": []} for name in setting.tasks}
    texts = {name: data.store(name, "train").pairs.texts for name in setting.tasks}
    for draw in (draw for step in range(count) for draw in data.plan.draws(step)):
        name = setting.tasks[draw.task]
        anchors, positives = steps.rows(draw).texts[:2]
        found[name]["anchor"] += texts[name].take(anchors).to_pylist()
        found[name]["positive"] += texts[name].take(positives).to_pylist()
    return found


def model_flops(encoder: Any, texts: Any, *, per_token: float | None = None) -> float:
    """FLOP of forward and backward for the texts, without padding and recomputation.

    `flops_per_token` for the linear layers, and 12 x width of the heads per layer and pair of tokens of a text
    (arXiv 2204.02311, which counts all pairs of a decoder's tokens too).
    """
    lengths = np.concatenate([chunk.mask.sum(dim=1).numpy() for chunk in texts.chunks]).astype(float)
    settings = encoder.backbone.config
    heads = settings.num_attention_heads
    width = heads * (getattr(settings, "head_dim", None) or settings.hidden_size // heads)
    linear = flops_per_token(encoder) if per_token is None else per_token
    return float(linear * lengths.sum() + 12 * settings.num_hidden_layers * width * (lengths**2).sum())


def flops_per_token(encoder: Any) -> float:
    """FLOP of forward and backward of the backbone's linear layers for one token, without recomputation.

    2 per weight in the forward pass, 2 for the gradient of the input where anything below trains, 2 for that of the
    weight where it trains: 6 if all trains, 4 for frozen weights between adapters. A tiny forward pass shows which.
    """
    import torch

    from mtcl.arrays import Ragged
    from mtcl.data.packing import pack

    found: list[int] = []

    def count(layer: Any, inputs: tuple[Any, ...], output: Any) -> None:
        found.append(2 * layer.weight.numel() * (1 + inputs[0].requires_grad + layer.weight.requires_grad))

    linear = [module for module in encoder.backbone.modules() if isinstance(module, torch.nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in linear]
    was_checkpointing, encoder.activation_checkpointing = encoder.activation_checkpointing, False
    last = encoder.backbone.config.vocab_size
    some = pack(Ragged(np.array([0, 4]), np.arange(last - 4, last)), tokens_per_chunk=1024)
    device = next(encoder.parameters()).device
    with torch.enable_grad(), torch.autocast(device.type, torch.bfloat16):
        encoder.pooled(some.to(device))
    encoder.activation_checkpointing = was_checkpointing
    for hook in hooks:
        hook.remove()
    return float(sum(found))


def synchronize(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


SYSTEMS = {"mtcl": mtcl, "bare": bare, "sentence-transformers": sentence_transformers}


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    run = SYSTEMS[request.pop("system")]
    result = run(Setting(**request | {"tasks": tuple(request["tasks"])}))
    if int(os.environ.get("LOCAL_RANK", "0")) == 0:
        print(json.dumps(result))
