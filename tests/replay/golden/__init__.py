"""Here live the golden histories: what releases have written, and every later one must replay. See the README."""
