"""Tatoeba sentences as LASER distributes them (facebookresearch/LASER, BSD; sentences by Tatoeba's contributors)."""

from mtcl import BitextAccuracy, Files, Parallel, Task


class SentencesGermanic(Task):
    """An English sentence <-> its translation into one of six Germanic languages."""

    name = "sentences_germanic"
    owner = "@mtcl"
    license = "CC BY 2.0 FR (Tatoeba)"
    data = Files("parallel_sentences", where={"lang": ["afr", "dan", "deu", "nld", "nob", "swe"]})
    pairs = Parallel(source="text_en", target="text_xx", language="lang")
    metric = BitextAccuracy(pool_size=100)
    sample = [
        {"text_en": "I like trains.", "text_xx": "Ich mag Züge.", "lang": "deu"},
        {"text_en": "The door is open.", "text_xx": "De deur is open.", "lang": "nld"},
        {"text_en": "I am tired.", "text_xx": "Ich bin müde.", "lang": "deu"},
        {"text_en": "Bring me something to eat.", "text_xx": "Breng me iets te eten.", "lang": "nld"},
    ]
