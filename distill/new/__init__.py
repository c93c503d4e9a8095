"""`distill new`: a folder with everything that a student for a file of rows needs."""
