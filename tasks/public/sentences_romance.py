"""Tatoeba sentences as LASER distributes them (facebookresearch/LASER, BSD; sentences by Tatoeba's contributors)."""

from mtcl import BitextAccuracy, Files, Parallel, Task


class SentencesRomance(Task):
    """An English sentence <-> its translation into one of six Romance languages."""

    name = "sentences_romance"
    owner = "@mtcl"
    license = "CC BY 2.0 FR (Tatoeba)"
    data = Files("parallel_sentences", where={"lang": ["cat", "fra", "ita", "por", "ron", "spa"]})
    pairs = Parallel(source="text_en", target="text_xx", language="lang")
    metric = BitextAccuracy(pool_size=100)
    sample = [
        {"text_en": "Bring me something to eat.", "text_xx": "Tráeme algo de comer.", "lang": "spa"},
        {"text_en": "The door is open.", "text_xx": "La porte est ouverte.", "lang": "fra"},
        {"text_en": "I like trains.", "text_xx": "Me gustan los trenes.", "lang": "spa"},
        {"text_en": "I am tired.", "text_xx": "Je suis fatigué.", "lang": "fra"},
    ]
