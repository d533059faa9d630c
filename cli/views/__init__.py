"""Views of results: tables, sentences, notes and charts of each job, and its exit code where the answer can be no."""
