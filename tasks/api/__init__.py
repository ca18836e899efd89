"""The REST API, at /api/v1: each operation calls the verbs that pages and commands call."""
