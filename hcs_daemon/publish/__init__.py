"""From predictions to files: well results, ledger, pictures, plate tables."""
