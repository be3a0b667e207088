"""A made-up corpus of professional-network posts, to try out five tasks without any data of one's own.

    mtcl demo DIR --posts 5000 --seed 0

Invented rather than downloaded: it needs no network and no licence, and its difficulty is known. The
untrained encoder gets part of it right; the rest needs insider words, slang and languages that the training
split teaches.
"""

from mtcl.demo.write import write_demo

__all__ = ["write_demo"]
