"""Training: adapters for a base model, with a record of how they were made and a proof of what they do."""
