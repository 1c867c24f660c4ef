"""What an evaluation leaves: tables, results per class, results.json."""
