"""What all studies share: grids, execution, tables, figures."""
