"""Here live the frozen values that every room shares; no I/O."""
