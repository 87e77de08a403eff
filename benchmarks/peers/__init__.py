"""Here live the others, each doing the same as :mod:`benchmarks.workloads`, in the way that suits it best."""
