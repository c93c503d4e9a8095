"""The store of answers that are paid for."""
