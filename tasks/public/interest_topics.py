"""Headlines of the News Category Dataset (R. Misra, arXiv 2209.11429), as selected by Bao et al., ICLR 2020."""

from mtcl import MRR, Files, LabelText, Task


class InterestTopics(Task):
    """A news headline -> its topic, one of 31."""

    name = "interest_topics"
    owner = "@mtcl"
    license = "CC BY 4.0 (News Category Dataset, as its author states; none in the source repository)"
    data = Files("interest_topics")
    pairs = LabelText(text="text", label="label_text")
    metric = MRR()
    sample = [
        {"text": "the 12 colleges with the biggest sweet tooth", "label_text": "education"},
        {"text": "how to pack light for a week in the mountains", "label_text": "travel"},
    ]
