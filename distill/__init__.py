"""distill: Distilling step-by-step (arXiv 2305.02301) in JAX.

Importing this package loads neither jax nor tensorflow; the subpackages do,
where they need them. See docs/architecture.md for the way of the data.
"""

__version__ = "0.1.0"
