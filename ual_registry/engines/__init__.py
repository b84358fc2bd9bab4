"""Engines that serve adapters: what each of them reads, and the forms in which an adapter means the same in all."""
