"""Here live the services of a dispatcher; they meet only in the journal."""
