"""What feedback was taken for, what is wrong with it, and what training will see of it."""
