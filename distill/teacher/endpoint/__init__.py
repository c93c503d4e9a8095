"""The endpoint: requests, their limits, and what its answers and refusals mean."""
