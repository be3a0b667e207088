"""Tatoeba sentences as LASER distributes them (facebookresearch/LASER, BSD; sentences by Tatoeba's contributors)."""

from mtcl import BitextAccuracy, Files, Parallel, Task


class SentencesOthers(Task):
    """An English sentence <-> its translation into one of eight other languages in Latin script."""

    name = "sentences_others"
    owner = "@mtcl"
    license = "CC BY 2.0 FR (Tatoeba)"
    data = Files("parallel_sentences", where={"lang": ["aze", "epo", "est", "hun", "ind", "lit", "tur", "vie"]})
    pairs = Parallel(source="text_en", target="text_xx", language="lang")
    metric = BitextAccuracy(pool_size=100)
    sample = [
        {"text_en": "The house is far away.", "text_xx": "Ev uzakta.", "lang": "tur"},
        {"text_en": "I am tired.", "text_xx": "Fáradt vagyok.", "lang": "hun"},
        {"text_en": "I like trains.", "text_xx": "Trenleri severim.", "lang": "tur"},
        {"text_en": "Bring me something to eat.", "text_xx": "Hozz nekem valamit enni.", "lang": "hun"},
    ]
