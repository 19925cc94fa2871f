"""Robots: MuJoCo models (MJCF files), and code that builds or edits them."""
