"""CrisisLexT26: tweets on 26 crises (Olteanu et al., CSCW 2015); the same tweets as in storyline_social."""

from mtcl import MRR, Files, LabelText, Task


class CrisisSource(Task):
    """A tweet on a crisis -> who speaks, one of 6."""

    name = "crisis_source"
    owner = "@mtcl"
    license = "MIT"
    data = Files("crisis_source")
    pairs = LabelText(text="text", label="label_text")
    metric = MRR()
    sample = [
        {"text": "Live coverage of the fertilizer plant explosions coming up", "label_text": "media"},
        {"text": "I can see the smoke from my window", "label_text": "eyewitness"},
    ]
