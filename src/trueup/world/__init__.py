"""The embedded default: a small language, a reward known exactly, people who write and judge, a small model.

`language`, `gold`, `people` and `generate` import neither torch nor transformers.
"""
