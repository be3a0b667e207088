"""Tatoeba sentences as LASER distributes them (facebookresearch/LASER, BSD; sentences by Tatoeba's contributors)."""

from mtcl import BitextAccuracy, Files, Parallel, Task


class SentencesSlavic(Task):
    """An English sentence <-> its translation into one of seven Slavic languages."""

    name = "sentences_slavic"
    owner = "@mtcl"
    license = "CC BY 2.0 FR (Tatoeba)"
    data = Files("parallel_sentences", where={"lang": ["bel", "bul", "ces", "pol", "rus", "srp", "ukr"]})
    pairs = Parallel(source="text_en", target="text_xx", language="lang")
    metric = BitextAccuracy(pool_size=100)
    sample = [
        {"text_en": "I am tired.", "text_xx": "Jestem zmęczony.", "lang": "pol"},
        {"text_en": "The door is open.", "text_xx": "Dveře jsou otevřené.", "lang": "ces"},
        {"text_en": "I like trains.", "text_xx": "Lubię pociągi.", "lang": "pol"},
        {"text_en": "Bring me something to eat.", "text_xx": "Přines mi něco k jídlu.", "lang": "ces"},
    ]
