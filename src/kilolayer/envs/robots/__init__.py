"""Robots: MuJoCo models, and edits of them."""
