"""Here lives the one place that chooses a wing."""
