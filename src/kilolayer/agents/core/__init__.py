"""What all agents share: interface, base classes, registry."""
