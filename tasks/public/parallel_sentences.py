"""Tatoeba sentences as LASER distributes them (facebookresearch/LASER, BSD; sentences by Tatoeba's contributors)."""

from mtcl import BitextAccuracy, Files, Parallel, Task


class ParallelSentences(Task):
    """An English sentence <-> its translation into one of 52 languages, 36 of them in training."""

    name = "parallel_sentences"
    owner = "@mtcl"
    license = "CC BY 2.0 FR (Tatoeba)"
    data = Files("parallel_sentences")
    pairs = Parallel(source="text_en", target="text_xx", language="lang")
    metric = BitextAccuracy(pool_size=100)
    sample = [
        {"text_en": "Bring me something to eat.", "text_xx": "Tráeme algo de comer.", "lang": "spa"},
        {"text_en": "The door is open.", "text_xx": "Die Tür ist offen.", "lang": "deu"},
        {"text_en": "The door is open.", "text_xx": "La puerta está abierta.", "lang": "spa"},
        {"text_en": "I like trains.", "text_xx": "Ich mag Züge.", "lang": "deu"},
    ]
