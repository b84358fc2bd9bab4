"""Which module of an architecture plays which role: data documents, and exact look-ups in them. Nothing is guessed."""
