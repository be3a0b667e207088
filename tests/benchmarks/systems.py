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
from typing import Any

import numpy as np

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
        cache=f"{setting.folder}/cache",
    )
    data.setup("fit")
    return data


def steps_of(data: Any) -> Any:
    """From step number to `StepBatch` of a single rank."""
    from mtcl.data.batch import StepDataset, TaskData

    tasks = [TaskData(data.store(name, "train")) for name in data.tasks]
    return StepDataset(data.plan, tasks, tokens_per_chunk=data.encoder_config.chunk_size)


def encoder_config(setting: Setting) -> Any:
    from mtcl.encoder.config import EncoderConfig

    size = {} if setting.tokens_per_chunk is None else {"tokens_per_chunk": setting.tokens_per_chunk}
    return EncoderConfig(name=setting.encoder, dropout=setting.dropout, attention=setting.attention, **size)


def mtcl(setting: Setting) -> dict[str, float]:
    """mtcl, through Lightning."""
    import lightning.pytorch as pl
    import torch

    from mtcl.training.module import MtclModule

    clock: list[float] = []

    class Clock(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
            synchronize(trainer.strategy.root_device)
            clock.append(setting.now())

    data = data_of(setting)
    module = MtclModule(encoder=encoder_config(setting), evaluate_base=False)
    trainer = pl.Trainer(
        max_steps=WARMUP + setting.steps,
        precision=setting.precision,  # type: ignore[arg-type]
        accelerator=setting.accelerator,
        devices=setting.ranks,
        strategy="ddp" if setting.ranks > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
        use_distributed_sampler=False,
        limit_val_batches=0,
        callbacks=[Clock()],
    )
    trainer.fit(module, data)
    seconds = clock[-1] - clock[WARMUP - 1]
    flops = 0.0
    if setting.ranks == 1:
        steps = steps_of(data)
        flops = sum(model_flops(module.encoder, steps[WARMUP + i].texts) for i in range(setting.steps)) / seconds
    torch.cuda.empty_cache()
    return {"pairs": setting.steps * setting.batch * setting.ranks * len(setting.tasks) / seconds, "flops": flops}


def bare(setting: Setting) -> dict[str, float]:
    """The same chunks without Lightning, loader, losses and TensorBoard."""
    import torch

    from mtcl.encoder.encoder import Encoder

    device = torch.device("cuda" if setting.accelerator == "gpu" else "cpu")
    data = data_of(setting)
    steps = steps_of(data)
    batches = [steps[number] for number in range(WARMUP + setting.steps)]
    encoder = Encoder.load(encoder_config(setting)).to(device)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-6, fused=True)
    clock: list[float] = []
    for batch in batches:
        texts = batch.texts.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=setting.precision == "bf16-mixed"):
            loss = encoder(texts)[:, 0].sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        synchronize(device)
        clock.append(setting.now())
    return {"pairs": setting.steps * setting.batch * len(setting.tasks) / (clock[-1] - clock[WARMUP - 1])}


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

    clock: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *arguments: Any, **options: Any) -> None:
            synchronize(model.device)
            clock.append(setting.now())

    model = peer(setting)
    count = WARMUP + setting.steps
    train = {name: datasets.Dataset.from_dict(texts) for name, texts in pairs_of_steps(setting, count).items()}
    arguments = SentenceTransformerTrainingArguments(
        output_dir=f"{setting.folder}/peer",
        max_steps=len(setting.tasks) * count,
        per_device_train_batch_size=setting.batch,
        multi_dataset_batch_sampler="round_robin",
        bf16=setting.precision == "bf16-mixed",
        use_cpu=setting.accelerator == "cpu",
        dataloader_num_workers=1,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        max_grad_norm=1.0,
    )
    loss = MultipleNegativesRankingLoss(model, scale=20.0)
    SentenceTransformerTrainer(model, arguments, train_dataset=train, loss=loss, callbacks=[Clock()]).train()
    seconds = clock[-1] - clock[WARMUP * len(setting.tasks) - 1]
    torch.cuda.empty_cache()
    return {"pairs": setting.steps * setting.batch * len(setting.tasks) / seconds}


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
    texts = {name: data.store(name, "train").texts() for name in setting.tasks}
    for draw in (draw for step in range(count) for draw in data.plan.draws(step)):
        name = setting.tasks[draw.task]
        anchors, positives = steps.rows(draw).texts[:2]
        found[name]["anchor"] += texts[name].take(anchors).to_pylist()
        found[name]["positive"] += texts[name].take(positives).to_pylist()
    return found


def model_flops(encoder: Any, texts: Any) -> float:
    """FLOP of forward and backward for the texts, without padding and recomputation.

    6 per matrix weight and token, and 12 x hidden size per layer and pair of tokens of a text (arXiv 2204.02311).
    """
    lengths = np.concatenate([chunk.mask.sum(dim=1).numpy() for chunk in texts.chunks]).astype(float)
    settings = encoder.backbone.config
    weights = sum(p.numel() for name, p in encoder.named_parameters() if p.dim() == 2 and "embeddings" not in name)
    attention = 12 * settings.num_hidden_layers * settings.hidden_size
    return float(6 * weights * lengths.sum() + attention * (lengths**2).sum())


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
