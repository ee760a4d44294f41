"""Causal language models: how likely they find a text, how they are trained, and which heads retrieve."""
