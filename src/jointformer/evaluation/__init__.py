"""Runs over videos and benchmarks, scoring, submissions, published rows, speed."""
