"""Benchmarks and operator tools."""
