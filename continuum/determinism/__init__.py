"""Here lives what reads workflow code before it runs, and what watches it while it does."""
