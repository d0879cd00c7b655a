"""The brain of a Moxie node: pure, deterministic, without clock, randomness, IO, logging or threads."""
