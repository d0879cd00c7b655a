"""Exhaustive exploration of small worlds: every schedule of a few real machines and a few faults, up to a bound."""
