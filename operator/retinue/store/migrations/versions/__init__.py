"""One module per schema version; its number is the revision."""
