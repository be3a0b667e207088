"""`mtcl embed`: bulk embedding of files, and `Embedder`, the same for Ray Data.

    reading -> windows of rows -> tokens (in another process) -> vectors -> parts -> one file per input file

`settings` is what a folder of vectors is made with, `numbers` the types of numbers, `shards` the inputs by name,
`reading` their rows, `tokens` the tokenising process, `vectors_of` the computation, `writing` the files, `shard_run` one
input, `run` all of them, `progress` what is printed, `embedder` Ray's class.
"""
