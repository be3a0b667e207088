"""The STS benchmark's sentences and their machine translations (github.com/PhilipMay/stsb-multi-mt), without scores."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mtcl import BitextAccuracy, Files, Parallel, Task


class StsTranslations(Task):
    """An English sentence of the STS benchmark <-> its translation into one of 10 languages, 6 of them in training."""

    name = "sts_translations"
    owner = "@mtcl"
    license = "CC BY-SA 4.0 (texts each under the licence of its source)"
    pairs = Parallel(source="english", target="translation", language="lang")
    metric = BitextAccuracy(pool_size=100)
    sample = [
        {"english": "A plane is taking off.", "translation": "Ein Flugzeug hebt ab.", "lang": "de"},
        {"english": "A plane is taking off.", "translation": "Un avión está despegando.", "lang": "es"},
        {"english": "A man is smoking.", "translation": "Ein Mann raucht.", "lang": "de"},
        {"english": "A man is smoking.", "translation": "Un hombre está fumando.", "lang": "es"},
    ]

    def data(self, split: str, root: Path | None) -> pa.Table:
        """Join each of a pair's two sentences with the English one: a pair has the same `pair_id` in all languages."""
        rows = Files("sts_multilingual")(split, root)
        is_english = pc.equal(rows["lang"], "en")
        english, others = rows.filter(is_english), rows.filter(pc.invert(is_english))
        places = pc.index_in(others["pair_id"], value_set=english["pair_id"])
        others, english = others.filter(places.is_valid()), english.take(places.drop_null())
        sides = [
            pa.table({"english": english[side], "translation": others[side], "lang": others["lang"]})
            for side in ("sentence1", "sentence2")
        ]
        return pa.concat_tables(sides)
