"""Here lives what the engine tells about itself; telling must never change what it does."""
