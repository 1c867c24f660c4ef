"""Data sets of annotated instances: dataset dicts, registration, mapping, pictures."""
