"""Here lives what Continuum is made to do."""
