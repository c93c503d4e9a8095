"""The generated pages of docs/reference: `python -m distill.reference` writes them."""
