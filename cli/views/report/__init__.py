"""A page of results for a browser: chapters of tables and charts, their HTML, and figures as files."""
