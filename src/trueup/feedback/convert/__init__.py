"""Feedback written in another form: in the canonical form, restricted to what one view uses, or as TRL's rows."""
