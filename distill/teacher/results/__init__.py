"""What becomes of stored answers: labels and rationales of rows, counts and files."""
