"""What a team should know about its data before it trains: one function per finding.

`mtcl tasks check` shows all findings in a table (`report.py`), and `mtcl fit` repeats the warnings (`warnings.py`). A
function gets one or two splits and returns lines to read, none if all is well.
"""
