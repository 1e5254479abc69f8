"""What was observed about responses: the record, its files, and views of it. Text only; imports no torch."""
