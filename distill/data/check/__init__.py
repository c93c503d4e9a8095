"""`distill data check`: what is wrong with rows, found in one pass that keeps no row."""
