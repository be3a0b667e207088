"""A control for studies of transfer: a base encoder with untrained last layers.

    python -m tests.benchmarks.reset_layers OUT [--layers 2] [--seed 0]

Writes all-MiniLM-L6-v2 with fresh weights in its last layers (reset as in Zhang et al. 2021, "Revisiting few-sample
BERT fine-tuning") to a folder for `model.encoder.name`. Those layers lose what they learned from contrastive
training on a billion pairs; the earlier layers still know words and their local context.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

from mtcl.encoder.config import DEFAULT_MODEL
from mtcl.encoder.hub import resolve_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = resolve_model(DEFAULT_MODEL)
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    torch.manual_seed(options.seed)
    last = model.encoder.layer[-options.layers :]
    fresh = type(model)(model.config, add_pooling_layer=False).encoder.layer[-options.layers :]
    last.load_state_dict(fresh.state_dict())
    model.save_pretrained(options.out)
    AutoTokenizer.from_pretrained(folder).save_pretrained(options.out)
    print(f"{options.out}: {options.layers} of {len(model.encoder.layer)} layers reset")


if __name__ == "__main__":
    main()
