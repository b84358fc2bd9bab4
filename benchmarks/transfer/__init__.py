"""How much of an adapter survives the move to another base model, measured on real models."""
