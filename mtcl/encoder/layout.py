"""Writes an encoder as a folder that other libraries load, in the layout of sentence-transformers.

The folder has the Hugging Face model and tokenizer in its root and a folder for each module after it. Readers differ,
so the files are in the form that all of them accept:

- class names as of sentence-transformers 5.3, which later versions still load; text-embeddings-inference (TEI) and vLLM
  ignore the dense layers of a model with the later names;
- a pooling as booleans and, if there is one pooling, `pooling_mode` too, without `embedding_dimension`, which versions
  up to 5.3 refuse; TEI requires the booleans, and vLLM took CLS pooling without them;
- the max length in `sentence_bert_config.json`, where TEI and vLLM look, and in the tokenizer, where
  sentence-transformers 6 does;
- an activation in each dense layer, because without one it is Tanh.

`mtcl.json` and `heads.safetensors` are for mtcl: with them `TextEncoder.load` gives the run's tasks, prompts and heads.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from mtcl.arrays import Ragged
from mtcl.encoder import facts as mtcl_json
from mtcl.encoder.declared import AS_BOOLEANS, POOLINGS
from mtcl.encoder.exported import Exported
from mtcl.encoder.facts import Facts
from mtcl.encoder.heads import write_heads
from mtcl.encoder.parts import EncoderParts
from mtcl.encoder.stages import LayerNorm, Linear, Step, UnitLength
from mtcl.errors import ConfigError
from mtcl.files import written_whole
from mtcl.task.prompt import Prompt

MODULES = "sentence_transformers.models."
PROBES = ("A probe: Ünïcode, 12.5 %", "two   spaces", "x" * 300 + " end", "?")
"""Texts of which the written tokenizer must give the same tokens."""
OF_THIS_MACHINE = ("is_local", "local_files_only", "name_or_path")
"""What transformers writes about how a tokenizer was loaded."""
log = logging.getLogger("mtcl")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which gets the name `path` as a whole at the end. Raises `ConfigError` if `path` exists."""
    if path.exists():
        raise ConfigError(f"{path} exists: remove it, or give another folder")
    with written_whole(path) as aside:
        aside.mkdir()
        yield aside


def write_layout(exported: Exported, folder: Path) -> None:
    """Write all files of an exported encoder into the empty `folder`.

    Raises `ConfigError` for an encoder that the layout cannot express.
    """
    encoder = exported.encoder
    check_own_code(encoder)
    stages = exported.stages
    _warn_of_servers(encoder, stages)
    length = exported.max_length
    _write_transformer(exported, folder)
    write_tokenizer(encoder, folder, length)
    lower_case = encoder.model.declared.lower_case
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": lower_case})
    list_modules(folder, [("", "Transformer"), *_write_modules(encoder, stages, folder)])
    facts = exported.facts
    write_json(folder / "config_sentence_transformers.json", _prompts(exported.prompt, facts))
    write_json(folder / mtcl_json.FILE, facts.plain())
    if exported.is_shared:
        write_heads(folder, encoder.heads)
    elif left := [name for name in encoder.heads if exported.task is None]:
        log.warning(
            "tasks with a head of their own (%s) are left out, because a head needs all %d dimensions: "
            "export each with --task",
            ", ".join(left),
            encoder.dim,
        )


def check_own_code(encoder: EncoderParts) -> None:
    """Raise `ConfigError` for a model whose class comes from its repository, which others could not load."""
    kind = type(encoder.model.backbone)
    if kind.__module__.startswith("transformers_modules"):
        raise ConfigError(
            f"the model is a {kind.__name__} of its repository's own code, which a folder without code cannot have: "
            "train from a base encoder that transformers has itself"
        )


def _warn_of_servers(encoder: EncoderParts, stages: Sequence[Step]) -> None:
    """Name what sentence-transformers and mtcl apply, but TEI or vLLM do not."""
    inner = stages[:-1]
    odd = ["several poolings"] if len(encoder.model.poolings) > 1 else []
    odd += ["a layer normalisation"] if any(isinstance(stage, LayerNorm) for stage in inner) else []
    odd += ["a normalisation between dense layers"] if any(isinstance(stage, UnitLength) for stage in inner) else []
    if odd:
        log.warning(
            "the model has %s, which text-embeddings-inference and vLLM do not apply, so their vectors would differ; "
            "sentence-transformers applies it, and onnx/model.onnx has it inside",
            " and ".join(odd),
        )
    if any(isinstance(stage, Linear) and stage.residual_OI is not None for stage in inner):
        log.warning(
            "the model has a residual dense layer, which only mtcl and sentence-transformers 5.7 or later apply; "
            "onnx/model.onnx has it inside"
        )


def _write_transformer(exported: Exported, folder: Path) -> None:
    backbone: Any = exported.encoder.model.backbone
    state = {
        name: value.detach().float().cpu() if value.is_floating_point() else value.cpu()
        for name, value in backbone.state_dict().items()
    }
    backbone.save_pretrained(folder, state_dict=state)
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    own, *trained = exported.dims
    for key in ("matryoshka_dimensions", "is_matryoshka", "auto_map"):
        config.pop(key, None)  # of the base model
    if trained:
        config["matryoshka_dimensions"] = [own, *trained]
    write_json(file, config)


def write_tokenizer(encoder: EncoderParts, folder: Path, max_length: int) -> None:
    """Write the tokenizer, which cuts texts to `max_length` and pads on the right, as in training.

    Raises `ConfigError` if the files do not give the same tokens.
    """
    tokenizer: Any = copy.deepcopy(encoder.tokenizer.backend)
    tokenizer.model_max_length, tokenizer.padding_side = max_length, "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.is_fast:
        fast = tokenizer.backend_tokenizer
        fast.enable_truncation(max_length, direction=tokenizer.truncation_side)
        fast.enable_padding(pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config = {key: value for key, value in config.items() if key not in OF_THIS_MACHINE}
    write_json(file, config)
    wanted = encoder.tokenizer(list(PROBES), max_length)
    odd = _differing(folder, wanted)
    if odd is not None and tokenizer.is_fast:  # its class changes what tokenizer.json says: lower case in BERT's
        write_json(file, config | {"tokenizer_class": "PreTrainedTokenizerFast"})
        odd = _differing(folder, wanted)
    if odd is not None:
        raise ConfigError(
            f"the tokenizer gives other tokens for {odd!r:.30} after it was saved, so it cannot be exported: "
            "train from a folder that holds the tokenizer as transformers saves it"
        )


def _differing(folder: Path, wanted: Ragged) -> str | None:
    """The first of the probes of which the written tokenizer gives other tokens; None if there is none."""
    from transformers import AutoTokenizer

    written: Any = AutoTokenizer.from_pretrained(folder)
    found = written(list(PROBES), truncation=True)["input_ids"]
    same = [ids == wanted[number].tolist() for number, ids in enumerate(found)]
    return None if all(same) else PROBES[same.index(False)]


def _write_modules(encoder: EncoderParts, stages: Sequence[Step], folder: Path) -> list[tuple[str, str]]:
    """Write the modules after the transformer; returns the folder and the class of each."""
    model = encoder.model
    written = [("1_Pooling", "Pooling")]
    write_json(folder / "1_Pooling" / "config.json", _pooling(model.poolings, model.pooled_dim // len(model.poolings)))
    for number, stage in enumerate(stages, start=2):
        kind = {Linear: "Dense", LayerNorm: "LayerNorm", UnitLength: "Normalize"}[type(stage)]
        path = f"{number}_{kind}"
        config, state = _module(stage)
        write_json(folder / path / "config.json", config)
        if state:
            from safetensors.torch import save_file

            save_file({name: value.contiguous() for name, value in state.items()}, folder / path / "model.safetensors")
        written.append((path, kind))
    return written


def _pooling(poolings: Sequence[str], size: int) -> dict[str, Any]:
    names = {POOLINGS[name]: name for name in POOLINGS}
    chosen = {names[cast("Any", pooling)] for pooling in poolings}
    content: dict[str, Any] = {"word_embedding_dimension": size}
    content |= {key: name in chosen for key, name in AS_BOOLEANS.items()}
    content["include_prompt"] = True
    if len(chosen) == 1:  # the string can name one pooling only, and older versions prefer it to the booleans
        content["pooling_mode"] = chosen.pop()
    return content


def _module(stage: Step) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A module's configuration and weights."""
    if isinstance(stage, LayerNorm):
        weights = stage.norm.state_dict()
        return {"dimension": stage.norm.normalized_shape[0]}, {
            f"norm.{name}": v.float().cpu() for name, v in weights.items()
        }
    if isinstance(stage, UnitLength):
        return {}, {}
    size_out, size_in = stage.weight_OI.shape
    config = {
        "in_features": size_in,
        "out_features": size_out,
        "bias": stage.bias_O is not None,
        "activation_function": stage.activation,
    }
    state = {"linear.weight": stage.weight_OI} | ({} if stage.bias_O is None else {"linear.bias": stage.bias_O})
    if stage.residual_OI is not None:
        config["use_residual"] = True
        state |= {} if stage.is_residual_identity else {"residual.weight": stage.residual_OI}
    return config, state


def _prompts(own: Prompt, facts: Facts) -> dict[str, Any]:
    """The prompts by name: `query` and `document` for texts of no particular task, then each task's.

    A task of one prompt has it under its own name, a task of two as `NAME_query` and `NAME_document`.
    """
    prompts = {"query": own.query, "document": own.document}
    for name, prompt in facts.prompts.items():
        both = (
            {f"{name}_query": prompt.query, f"{name}_document": prompt.document}
            if prompt.differs
            else {name: prompt.query}
        )
        if taken := [key for key in both if key in prompts and prompts[key] != both[key]]:
            log.warning("two prompts would be called %r: the one of task %r is left out", taken[0], name)
            continue
        prompts |= both
    is_one = len(set(prompts.values())) == 1
    return {
        "model_type": "SentenceTransformer",
        "__version__": _versions(),
        "prompts": prompts,
        "default_prompt_name": "document" if is_one and own.document else None,
        "similarity_fn_name": "cosine",
    }


def _versions() -> dict[str, str]:
    """Versions of the libraries; that of sentence-transformers is the one whose layout this is."""
    import torch
    import transformers

    return {"sentence_transformers": "5.3.0", "transformers": transformers.__version__, "pytorch": torch.__version__}


def list_modules(folder: Path, modules: Sequence[tuple[str, str]]) -> None:
    """Write `modules.json`: the sub-folder and the class of each module, in order."""
    write_json(
        folder / "modules.json",
        [
            {"idx": number, "name": str(number), "path": path, "type": f"{MODULES}{kind}"}
            for number, (path, kind) in enumerate(modules)
        ],
    )


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a file of the layout, and its folder if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
