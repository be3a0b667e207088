"""CrisisLexT26: tweets on 26 crises (Olteanu et al., CSCW 2015); the same tweets as in storyline_social."""

from mtcl import MRR, Files, LabelText, Task


class CrisisTypeOfInformation(Task):
    """A tweet on a crisis -> the type of information it has, one of 6."""

    name = "crisis_type_of_information"
    owner = "@mtcl"
    license = "MIT"
    data = Files("crisis_type_of_information")
    pairs = LabelText(text="text", label="label_text")
    metric = MRR()
    sample = [
        {"text": "A photograph of the refinery after the explosion", "label_text": "infrastructure and utilities"},
        {"text": "Our thoughts are with the Philippines", "label_text": "sympathy and support"},
    ]
