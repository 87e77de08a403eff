"""Here lives what a workflow or an activity says about itself: decorators, names, options, signals."""
