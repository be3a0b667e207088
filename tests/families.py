"""Tiny random models of many architectures, with a WordPiece tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = ["red", "green", "blue", "dog", "cat", "bird", "post", "job", "news", "query", "passage", "a", "the", "for"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *(f"##{c}" for c in WORDS), ":", "A"]
LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
PADDING = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
DECODER = {**LAYERS, **PADDING, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 128}
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {**LAYERS, "max_position_embeddings": 128}),
    "roberta": ("Roberta", {**LAYERS, "max_position_embeddings": 66, "pad_token_id": 1}),
    "xlm-roberta": ("XLMRoberta", {**LAYERS, "max_position_embeddings": 66, "pad_token_id": 1}),
    "mpnet": ("MPNet", {**LAYERS, "max_position_embeddings": 66, "pad_token_id": 1}),
    "distilbert": ("DistilBert", {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
    "electra": ("Electra", {**LAYERS, "embedding_size": 16}),
    "albert": ("Albert", {**LAYERS, "embedding_size": 16}),
    "deberta-v2": (
        "DebertaV2",
        {**LAYERS, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
    ),
    "modernbert": ("ModernBert", {**LAYERS, **PADDING, "cls_token_id": 2, "sep_token_id": 3, "local_attention": 8}),
    "nomic-bert": ("NomicBert", {**LAYERS, **PADDING}),
    "t5": ("T5", T5),
    "mt5": ("MT5", T5),
    "qwen3": ("Qwen3", DECODER),
    "llama": ("Llama", DECODER),
    "mistral": ("Mistral", {**DECODER, "sliding_window": 8}),
    "gemma3": ("Gemma3Text", {**DECODER, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}),
    "gemma3-bidirectional": ("Gemma3Text", {**DECODER, "use_bidirectional_attention": True, "sliding_window": 8}),
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 2, **PADDING}),
    "xlnet": ("XLNet", {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}),
}

READING_PADDING: dict[str, tuple[str, dict[str, Any]]] = {
    "fnet": ("FNet", {**LAYERS, "use_tpu_fourier_optimizations": False}),
    "mobilebert": ("MobileBert", {**LAYERS, "embedding_size": 16, "intra_bottleneck_size": 16}),
    "convbert": ("ConvBert", {**LAYERS, "embedding_size": 32}),
}
"""Families whose vectors depend on the padding after a text."""


def write_model(folder: Path, family: str, **options: Any) -> Path:
    """Write a random model of a family and its tokenizer to a folder."""
    import torch
    import transformers

    name, sizes = {**FAMILIES, **READING_PADDING}[family]
    config = getattr(transformers, f"{name}Config")(vocab_size=len(PIECES), **{**sizes, **options})
    torch.manual_seed(0)
    model: Any = getattr(transformers, f"{name}Model")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path, **options: Any) -> None:
    """A WordPiece tokenizer of some 30 pieces."""
    from transformers import BertTokenizerFast

    (folder / "vocab.txt").write_text("\n".join(PIECES))
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), **options).save_pretrained(folder)


def write_sentence_transformer(
    folder: Path, transformer: Path, *layers: Any, pooling: Any = "mean", **options: Any
) -> Any:
    """Save a model as sentence-transformers itself does, and return it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules.transformer import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    module = Transformer(str(transformer))
    size = module.get_embedding_dimension()
    model = SentenceTransformer(modules=[module, Pooling(size, pooling), *layers], device="cpu", **options)
    model.save(str(folder))
    return SentenceTransformer(str(folder), device="cpu")
