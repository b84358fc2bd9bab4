"""Teaching a target base model what a source adapter says: generated text, teacher scores, and training on both."""
