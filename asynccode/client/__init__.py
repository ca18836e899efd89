"""The command-line client. It runs on developers' machines and knows the server by its API only."""

__version__ = "0.1.0"  # of the wheel, too
