"""`mtcl align`: maps vectors of one encoder to the space of another, so that an upgrade need not embed all texts again.

    common rows of two folders -> fitting -> the better map by held-out rows -> figures -> an `Alignment` in a folder

`pairs` finds the common rows, `fitting` fits the two kinds of map, `choosing` chooses one and measures it, `alignment`
is the map with its files, `applying` maps a whole folder of vectors.
"""

from mtcl.deploy.align.alignment import Alignment

__all__ = ["Alignment"]
