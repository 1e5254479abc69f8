"""From a round's scores to advantages: pure functions in float64 on tokens that lie one row after the other."""
