"""Weak supervision: votes of rules and of prompted language models, and the model that weighs them up."""
