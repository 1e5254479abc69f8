"""What computes responses: each file here is a value of `sampler.engine`, and has a function `make`.

Its arguments are those of `trueup.sampling.build.make_engine`, and it returns a sampler.
"""
