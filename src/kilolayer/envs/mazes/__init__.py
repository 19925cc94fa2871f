"""Mazes: walls, layouts, shortest paths, corridors."""
