"""Faults by real processes: killed, in one another's way, without room or permission."""
