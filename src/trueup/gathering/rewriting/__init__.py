"""Demonstrations from a stronger model in place of chosen responses, as in the golden data of the ULMA paper."""
