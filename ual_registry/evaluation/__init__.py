"""The evaluation of adapters: the same items for every arm, paired intervals, controls, and a report card."""
