"""Findings about a task's data that a team should know before training: one function per finding.

`mtcl tasks check` shows all findings in a table (`report.py`), and `mtcl fit` repeats the warnings (`warnings.py`). A
function gets one or two splits and returns warnings, none if all is well.
"""
