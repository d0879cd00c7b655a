"""Failures of machines over years: recorded ones (``twin.lanl``) or generated from published fits (``fits``)."""
