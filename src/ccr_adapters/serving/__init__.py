"""Serving: one model and one collection for many callers, from Python (`engine`, `gallery`) or over HTTP (`app`, `run`).

Nothing is imported here: limits and addresses are checked before torch is needed.
"""
