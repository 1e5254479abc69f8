"""Feedback gathered by command: responses sampled, judged, or replaced by better ones, and kept while it goes on."""
