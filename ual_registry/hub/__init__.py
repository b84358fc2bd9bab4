"""The Hugging Face Hub as a place to publish adapters and to find them, through its own client."""
