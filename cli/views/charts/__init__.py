"""Charts of results, as data; the tables of the same results are in `adaptare.views`."""
