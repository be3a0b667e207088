"""The board: how TensorBoard shows a run, apart from the scalars themselves (`mtcl.training.metric_log`).

names       the group `summary` first, then one group per task; what `lean` logs; custom charts; the link with pins
callback    `Board`, which writes the rest at the start of a run and at each validation
"""
