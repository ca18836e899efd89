"""The command-line client. It runs on developers' machines and knows the server by its API only."""
