"""What `TextEncoder.encode` takes as texts: ordered collections of texts, and nothing that it would have to guess at.

python -m pytest tests/test_texts.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mtcl import ConfigError
from mtcl.encoder.text_encoder import best_device
from mtcl.encoder.texts import texts_of


@pytest.mark.parametrize(
    "given",
    [
        ["a", "é"],
        ("a", "é"),
        iter(["a", "é"]),
        {"a": 1, "é": 2}.keys(),
        np.array(["a", "é"]),
        np.array(["a", "é"], dtype=object),
        pd.Series(["a", "é"], index=[7, 3]),
        pd.Series(["a", "é"], dtype="category"),
        pd.DataFrame({"text": ["a", "é"]})["text"],
        pa.array(["a", "é"]),
        pa.chunked_array([["a"], ["é"]]),
    ],
)
def test_ordered_collections(given: Any) -> None:
    assert texts_of(given) == ["a", "é"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "^texts is None, of type NoneType: give a text or a list of texts"),
        (b"abc", "^texts is b'abc', of type bytes"),
        (7, "^texts is 7, of type int"),
        (np.array([["a", "b"]]), "of type ndarray: give a text or a list of texts"),
        (np.array("a"), "of type ndarray"),
        ({"a", "b"}, "^texts is of type set, which has no order: give a list"),
        ({"text": ["a"]}, "^texts is of type dict: give one of its columns"),
        (pd.DataFrame({"text": ["a"]}), "^texts is of type DataFrame: give one of its columns"),
        (pa.table({"text": ["a"]}), "^texts is of type Table: give one of its columns"),
        (["a", None], "^texts holds None: give strings"),
        (pd.Series(["a", float("nan")]), "^texts holds nan: give strings"),
        (pa.array(["a", None]), "^texts holds None: give strings"),
        (["a", ["b"]], "^texts holds .*: give strings"),
        ("\ud83d", "half of a character"),
        (["a", "\ud83d"], "half of a character"),
    ],
)
def test_what_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        texts_of(given)


@pytest.mark.parametrize("device", ["gpu", "cuda:77"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ConfigError, match=f"^device is '{device}', which cannot be used here .*: give cpu$"):
        best_device(device)
