"""Failures of machines over years: recorded ones (``lanl``) or generated from published fits (``fits``)."""
