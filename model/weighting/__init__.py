"""How much the behaviour and the motion gradient count in one step: one rule a file, behind one interface."""
