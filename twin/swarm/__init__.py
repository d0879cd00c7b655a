"""Campaigns of random faults by the thousand: drawn, run, judged, and reduced to what matters."""
