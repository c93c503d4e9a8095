"""The commands of `distill`, a module each; `distill.cli` registers them."""
