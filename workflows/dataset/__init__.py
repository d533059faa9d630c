"""Published data sets of measurements: export of stores, validation, merging, and tables of costs."""
