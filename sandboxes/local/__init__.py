"""Sandboxes on this machine: one long-lived bubblewrap each, the supervisor as its PID 1.

`LocalBackend` (backend.py) keeps the contract of `sandboxes.base`; `selftest.check` says at the service's start
whether sandboxes can be had here at all. Nothing ever runs outside a sandbox as a fallback.
"""
