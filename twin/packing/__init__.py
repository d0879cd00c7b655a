"""How many virtual machines fit: Nova-like scheduling, packing heuristics, and how good they could get."""
