"""Neighbours in a folder of vectors.

`exact` is a search block by block, `index` an index of FAISS, `rows` reads rows by number, `queries` turns texts into
vectors that the folder can be searched with.
"""
