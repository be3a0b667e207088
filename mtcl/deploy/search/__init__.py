"""Finds neighbours in a folder of vectors.

`exact` searches block by block, `index` is a FAISS index, `rows` reads rows by number, `queries` turns texts into
vectors that the folder can be searched with.
"""
