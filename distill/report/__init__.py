"""The report of a results folder: statistics, tables, plots and the page."""
