"""The lab: a rack of real processes on one Linux machine."""
