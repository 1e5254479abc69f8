"""Typed settings of runs, samplers, annotators and commands: plain values, and nothing that reads a file."""
