"""Here live the effects: what workflow code may ask of the engine, one kind per file."""
