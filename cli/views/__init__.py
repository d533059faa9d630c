"""Views of results: the tables, sentences and notes of each command, and its exit code where the answer can be no."""
