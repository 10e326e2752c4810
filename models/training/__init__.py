"""training: from a file of events to a bundle that freshet serves.

Read it in the order the data flows: data -> text -> model -> train -> evaluate -> export; cli.py ties them together.
"""

__version__ = "0.1.0"
