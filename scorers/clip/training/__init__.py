"""Trains CLIP models on pairs that were judged clean, as filters for others."""
