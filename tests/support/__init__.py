"""Here lives what tests share: waiting for a condition, real processes, databases of their own."""
