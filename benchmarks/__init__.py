"""Measurements, not tests: each file prints JSON and holds ratios of things measured in the same run."""
