"""The keyed loaders of both jobs: every sample a function of (seed, stream position)."""
