"""A generated corpus of professional-network posts, for trying out five tasks without your own data.

    mtcl demo DIR --posts 5000 --seed 0

It is generated rather than downloaded, so it needs no network and no licence, and its difficulty is known. The
untrained encoder gets part of it right; the rest needs insider words, slang and languages from the training split.
"""

from mtcl.demo.write import write_demo

__all__ = ["write_demo"]
