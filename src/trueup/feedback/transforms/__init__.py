"""Transforms: what is done to examples before a view sees them, with all of the training examples in sight."""
