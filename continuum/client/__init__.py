"""Here lives what callers hold: the instance, its calls, handles on runs, and waiting for results."""
