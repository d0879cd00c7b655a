"""What more nodes cost and give: the simulated rack grown size by size, and the Universal Scalability Law fitted."""
