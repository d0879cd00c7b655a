"""Years of failures of a big site in bulk: what fails and is repaired, and what that does to storage and singletons."""
