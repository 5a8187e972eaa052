"""Sections with known truth: tissue drawn, and counted, from one map of cell types."""
