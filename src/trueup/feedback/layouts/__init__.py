"""The layouts that files of feedback come in: one file each, and the list of them in `known`."""
