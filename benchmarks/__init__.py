"""Here live the benchmarks: what `docs` promise about speed, measured side by side with peers. See README.md."""
