"""Keys that can be forgotten: the tree, its one blob per controller, the shred and its recovery."""
